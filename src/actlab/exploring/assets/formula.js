// Evaluate a formula and its first two derivatives, with actlab's conventions at kinks.

import { JETS, jet } from "./special.js";
import { FormulaError } from "./syntax.js";
import { Graph } from "./graph.js";

const NAME = /^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$/;
const ASSIGNMENT = /^\s*(\w+)\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*$/;
const CHECKED = [1, 2, 0.5, 3, 0.1, 5, 10, 30, 0.25, 0.7, 1.5, 1.9, 4, 7, 20, 100, 0.01, 1e-3].flatMap((x) => [-x, x]).concat(0);
const MOST_KINKS = 24;
const times = (a, b) => a === 0 || b === 0 ? 0 : a * b;  // a saturated factor ends the growth of another

/** Calls of an operation on n elements; `out`, `a`, `b` and `c` have values, first and second derivatives. */
const OPERATIONS = {
  add(n, out, { v, d, s }, b) {
    for (let i = 0; i < n; i++) { out.v[i] = v[i] + b.v[i]; out.d[i] = d[i] + b.d[i]; out.s[i] = s[i] + b.s[i]; }
  },
  subtract(n, out, { v, d, s }, b) {
    for (let i = 0; i < n; i++) { out.v[i] = v[i] - b.v[i]; out.d[i] = d[i] - b.d[i]; out.s[i] = s[i] - b.s[i]; }
  },
  negate(n, out, { v, d, s }) {
    for (let i = 0; i < n; i++) { out.v[i] = -v[i]; out.d[i] = -d[i]; out.s[i] = -s[i]; }
  },
  multiply(n, out, a, b) {
    for (let i = 0; i < n; i++) {
      const u = a.v[i], w = b.v[i], du = a.d[i], dw = b.d[i];
      out.v[i] = u * w;
      out.d[i] = times(du, w) + times(u, dw);
      out.s[i] = times(a.s[i], w) + 2 * times(du, dw) + times(u, b.s[i]);
    }
  },
  divide(n, out, a, b) {
    for (let i = 0; i < n; i++) {
      const w = b.v[i], q = a.v[i] / w, first = (a.d[i] - times(q, b.d[i])) / w;
      out.v[i] = q;
      out.d[i] = first;
      out.s[i] = (a.s[i] - 2 * times(first, b.d[i]) - times(q, b.s[i])) / w;
    }
  },
  power(n, out, a, b, _, isConstant) {
    for (let i = 0; i < n; i++) {
      const u = a.v[i], p = b.v[i], du = a.d[i], value = u ** p;
      out.v[i] = value;
      if (isConstant) {
        const first = p === 0 ? 0 : p * u ** (p - 1), second = p === 0 || p === 1 ? 0 : p * (p - 1) * u ** (p - 2);
        out.d[i] = times(first, du);
        out.s[i] = times(first, a.s[i]) + times(second, du * du);
      } else {  // exp(b log a)
        const log = Math.log(u), dl = du / u, e1 = times(b.d[i], log) + times(p, dl);
        const e2 = times(b.s[i], log) + 2 * times(b.d[i], dl) + times(p, (a.s[i] - times(du, dl)) / u);
        out.d[i] = times(value, e1);
        out.s[i] = times(value, e2 + e1 * e1);
      }
    }
  },
};

function applyElementary(n, out, a, compute) {
  for (let i = 0; i < n; i++) {
    const du = a.d[i];
    compute(a.v[i]);
    out.v[i] = jet[0];
    out.d[i] = times(jet[1], du);
    out.s[i] = times(jet[1], a.s[i]) + times(jet[2], du * du);
  }
}

/** Arrays of every operation of a program, for some number of elements. */
class Workspace {
  constructor(nodes) {
    Object.assign(this, { nodes, size: 0, registers: [] });
  }

  reserve(n) {
    if (n <= this.size) return false;
    this.size = n;
    this.registers = this.nodes.map(() => ({ v: new Float64Array(n), d: new Float64Array(n), s: new Float64Array(n) }));
    this.ties = new Uint8Array(n);
    this.branch = new Float64Array(n);
    return true;
  }
}

/** A formula in x with the values of its parameters. */
export class Formula {
  /** Read a formula; throw a FormulaError if it is wrong, or has no real value somewhere. */
  constructor(parser, text, parameters = new Map()) {
    this.text = text.replace(/[\t\r\n ]+/g, " ").trim();
    const tree = parser.parse(this.text, ["x", ...parameters.keys()]), graph = new Graph(parser);
    this.names = [...parameters.keys()];
    this.values = [...parameters.values()];
    graph.source = { text: this.text, start: 0, end: this.text.length };
    const scope = new Map([["x", graph.x], ...this.names.map((name) => [name, graph.make("parameter", [], { name })])]);
    this.nodes = graph.prune(graph.build(tree, scope, this.text));
    this.main = new Workspace(this.nodes);
    this.beside = new Workspace(this.nodes);
    this.names.forEach((name) => {
      if (!this.nodes.some((node) => node.name === name)) this.refuse(`parameter '${name}' does not occur in the formula`);
    });
    if (!this.nodes.some((node) => node.op === "x")) this.refuse("x does not occur: the value is the same everywhere");
  }

  refuse(problem, { text, start, end } = { text: this.text, start: 0, end: this.text.length }) {
    throw new FormulaError(problem, text, start, end);
  }

  /** Set the values of the parameters, in order. */
  bind(values) {
    this.values = [...values];
    this.main.size = this.beside.size = 0;
  }

  /**
   * Return {v, d, s}: the value and two derivatives at points (Float64Array). The arrays are valid until the next call.
   * With order 0 only the values are correct at kinks.
   */
  evaluate(x, order = 2) {
    const n = x.length, result = this.run(this.main, x, 0), { ties } = this.main, tied = [];
    if (order > 0) for (let i = 0; i < n; i++) if (ties[i]) tied.push(i);
    if (tied.length) {
      const at = Float64Array.from(tied, (i) => x[i]), sides = [-1, 1].map((side) => this.run(this.beside, at, side).d.slice(0, at.length));
      tied.forEach((i, k) => {
        const [left, right] = [sides[0][k], sides[1][k]];
        const jumps = Math.abs(left - right) > 1e-12 * Math.max(Math.abs(left), Math.abs(right));
        if (jumps && (left === 0 || right === 0)) result.d[i] = 0;  // one side is flat
      });
    }
    for (let i = 0; i < n; i++) if (Number.isNaN(result.v[i])) result.d[i] = result.s[i] = NaN;
    return result;
  }

  /** Return [f, f', f''] at one point. */
  at(x) {
    const { v, d, s } = this.evaluate(Float64Array.of(x));
    return [v[0], d[0], s[0]];
  }

  /** Run all operations. Points where two sides of a comparison are equal count as left (-1), own (0) or right (1) of it. */
  run(space, x, side) {
    const n = x.length;
    if (space.reserve(n)) this.nodes.forEach((node, i) => { if (node.isConstant) this.fillConstant(space, node, i); });
    space.ties.fill(0, 0, n);
    space.branch.fill(0, 0, n);
    this.nodes.forEach((node, i) => {
      const out = space.registers[i];
      if (node.op === "x") {
        out.v.set(x);
        out.d.fill(1, 0, n);
      } else if (!node.isConstant) this.apply(space, node, out, n, side);
    });
    return space.registers.at(-1);
  }

  fillConstant(space, node, i) {
    const out = space.registers[i], n = space.size;
    if (node.op === "number" || node.op === "parameter") out.v[0] = node.op === "number" ? node.value : this.values[this.names.indexOf(node.name)];
    else this.apply(space, node, out, 1, 0);
    out.v.fill(out.v[0], 0, n);
    out.d.fill(0);
    out.s.fill(0);
  }

  apply(space, node, out, n, side) {
    const [a, b, c] = node.args.map((one) => space.registers[one]), { op } = node;
    if (JETS.has(op)) applyElementary(n, out, a, JETS.get(op));
    else if (Object.hasOwn(OPERATIONS, op)) OPERATIONS[op](n, out, a, b, c, this.nodes[node.args[1]]?.isConstant);
    else if (op === "and" || op === "or") for (let i = 0; i < n; i++) out.v[i] = op === "and" ? a.v[i] && b.v[i] : a.v[i] || b.v[i];
    else if (op === "not") for (let i = 0; i < n; i++) out.v[i] = a.v[i] ? 0 : 1;
    else if (op === "compare") this.compare(space, node, out, n, side);
    else this.choose(space, node, out, n, side);
  }

  /** Return the sign of a - b at element i, on one side of a tie. */
  static order(space, a, b, i, side) {
    const u = a.v[i], w = b ? b.v[i] : 0;
    if (u !== w || !Number.isFinite(u)) return u > w ? 1 : u < w ? -1 : u === w ? 0 : NaN;
    space.ties[i] = 1;
    if (side === 0) return 0;
    const first = a.d[i] - (b ? b.d[i] : 0), second = a.s[i] - (b ? b.s[i] : 0);
    return first !== 0 ? side * Math.sign(first) : Math.sign(second);
  }

  compare(space, node, out, n, side) {
    const [a, b] = node.args.map((one) => space.registers[one]), { sign } = node, isAbove = sign[0] === ">", takesTie = sign.length === 2;
    for (let i = 0; i < n; i++) {
      const order = Formula.order(space, a, b, i, side);
      out.v[i] = order === 0 ? takesTie : Number.isNaN(order) ? 0 : (order > 0) === isAbove;
      space.branch[i] = space.branch[i] * 3 % 1e9 + 1 + out.v[i];
    }
  }

  /** where, abs, min and max select one of two sides. */
  choose(space, node, out, n, side) {
    const args = node.args.map((one) => space.registers[one]), { op } = node;
    const [yes, no] = op === "where" ? args.slice(1) : args, isMax = op === "max";
    const tie = op === "min" || op === "max" ? this.chooseAtTie(node) : 0;
    for (let i = 0; i < n; i++) {
      let takes;
      if (op === "where") takes = args[0].v[i];
      else {
        const order = Formula.order(space, yes, no, i, side);
        takes = order === 0 ? (tie === "steeper" ? yes.d[i] >= no.d[i] : tie) : op === "abs" ? order > 0 : (order > 0) === isMax;
        space.branch[i] = space.branch[i] * 3 % 1e9 + (takes ? 2 : 1);
      }
      if (op === "abs") {
        const factor = takes ? 1 : -1;
        out.v[i] = Math.abs(yes.v[i]);
        out.d[i] = factor * yes.d[i];
        out.s[i] = factor * yes.s[i];
      } else {
        const from = takes ? yes : no;
        out.v[i] = from.v[i];
        out.d[i] = from.d[i];
        out.s[i] = from.s[i];
      }
    }
  }

  /** Return whether min or max takes its first side where both are equal: a constant, then a sum, then the steeper one, as in SymPy. */
  chooseAtTie({ args }) {
    const [a, b] = args.map((one) => this.nodes[one]), isSum = ({ op }) => op === "add" || op === "subtract";
    if (a.isConstant !== b.isConstant) return a.isConstant;
    return isSum(a) !== isSum(b) ? isSum(a) : "steeper";
  }

  /** Throw a FormulaError if a part has no real value at one of many points. */
  check() {
    const numbers = this.nodes.filter(({ op, value }) => op === "number" && Math.abs(value) < 1e3 && value !== 0).slice(0, 8);
    const near = numbers.flatMap(({ value }) => [0, 0.5, -0.5, 0.01, -0.01].flatMap((step) => [value + step, -value - step]));
    const points = Float64Array.from(new Set([...CHECKED, ...near])), values = this.run(this.main, points, 0).v;
    points.forEach((x, i) => {
      const bad = this.findUndefined(i, x, this.nodes.length - 1, new Set());
      if (bad) {
        const { text, start, end } = bad.source, part = text.slice(start, end);
        this.refuse(`${part.length > 60 ? `${part.slice(0, 57)}...` : part} is not a real number for x = ${Number(x.toPrecision(6))}`, bad.source);
      }
    });
    if (values.subarray(0, points.length).every((value) => value === values[0])) this.refuse("x cancels out: the value is the same everywhere");
  }

  /** Return the operation that has no real value at the element i of the last run, among those that the value depends on. */
  findUndefined(i, x, place, checked) {
    if (checked.has(place)) return null;
    checked.add(place);
    const node = this.nodes[place], value = (one) => this.main.registers[one].v[i];
    const used = node.op === "where" ? [node.args[0], node.args[value(node.args[0]) ? 1 : 2]] : node.args;
    for (const one of used) {
      const found = this.findUndefined(i, x, one, checked);
      if (found) return found;
    }
    if (!used.every((one) => Number.isFinite(value(one)))) return null;  // an overflow
    if (Number.isNaN(value(place))) return node;
    const overflows = Number.isFinite(value(place)) || Math.abs(x) > 10;
    return !overflows && ["divide", "log", "log1p", "power", "atanh"].includes(node.op) && (node.op !== "power" || value(node.args[0]) === 0) ? node : null;
  }

  /** Return the kinks and jumps near 0: {x, value, slope, left, right, jump}. */
  findKinks() {
    if (!this.nodes.some(({ op }) => ["compare", "abs", "min", "max"].includes(op))) return [];
    const points = Float64Array.from({ length: 4001 }, (_, i) => Math.sinh((i - 2000) / 2000 * 8) / Math.sinh(8) * 100 + 1e-9), borders = [];
    this.run(this.main, points, 0);
    const branch = this.main.branch.slice(0, points.length);
    for (let i = 0; i + 1 < points.length; i++) if (branch[i] !== branch[i + 1]) borders.push([points[i], points[i + 1], branch[i]]);
    borders.sort((one, other) => Math.abs(one[0]) - Math.abs(other[0]));
    const found = borders.slice(0, MOST_KINKS).map(([low, high, left]) => this.bisect(low, high, left)).filter(Boolean);
    const unique = found.filter(({ x }, i) => found.findIndex((one) => one.x === x) === i);
    return unique.sort((one, other) => one.x - other.x);
  }

  bisect(low, high, left) {
    for (let i = 0; i < 1100; i++) {
      const middle = (low + high) / 2;
      if (middle <= low || middle >= high) break;
      this.run(this.main, Float64Array.of(middle), 0);
      if (this.main.branch[0] === left) low = middle;
      else high = middle;
    }
    const short = Number(high.toPrecision(12));  // the border between two neighbours is the rounder number
    const x = Math.abs(high) < 1e-300 ? 0 : Math.abs(short - high) <= 1e-15 * Math.abs(high) * 4 ? short : high;
    const step = Math.max(Math.abs(x), 1e-9) * 1e-9, [before, after] = [this.at(x - step), this.at(x + step)];
    const size = Math.max(Math.abs(before[1]), Math.abs(after[1])), jump = Math.abs(before[0] - after[0]) > 1e-6 * Math.max(1, Math.abs(before[0]));
    if (!jump && !(Math.abs(before[1] - after[1]) > 1e-7 + 1e-6 * size)) return null;
    const [value, slope] = this.at(x);
    return { x, value, slope, left: before[1], right: after[1], jump, below: before[0], above: after[0] };
  }

  /** Return the limits and slopes at minus and plus infinity, estimated from large arguments; NaN if there is none. */
  findLimits() {
    const read = (name) => [-1, 1].map((sign) => {
      const far = Float64Array.from({ length: 9 }, (_, i) => sign * 10 ** (i + 1) * (1 + i / 97));
      return estimateLimit([...this.run(this.main, far, 0)[name].subarray(0, far.length)]);
    });
    return { limits: read("v"), slopes: read("d") };
  }
}

/** Return the limit of a sequence at arguments that grow tenfold: a number, an infinity, or NaN. */
function estimateLimit(values) {
  const last = values.at(-1), steps = values.slice(1).map((value, i) => value - values[i]).slice(-4);
  if (!Number.isFinite(last)) return last;
  const size = Math.max(...steps.map(Math.abs));
  if (size < 1e-9 * Math.max(1, Math.abs(last))) return round(last);
  const grows = steps.every((step, i) => Math.sign(step) === Math.sign(steps[0]) && (i === 0 || Math.abs(step) >= 0.99 * Math.abs(steps[i - 1])));
  if (grows) return Math.sign(steps[0]) * Infinity;
  const shrinks = steps.every((step, i) => i === 0 || Math.abs(step) < 0.7 * Math.abs(steps[i - 1]));
  return shrinks ? round(last) : NaN;
}

const round = (value) => Math.abs(value) < 1e-6 ? 0 : Number(value.toPrecision(6));

/** Read "x*tanh(a*x) with a=2" without "formula:"; return {text, parameters}. */
export function splitFormula(line, parser) {
  const match = /\bwith\b/.exec(line.slice(0, 4000)), parameters = new Map();
  if (!match) return { text: line, parameters };
  let start = match.index + 4;
  for (const part of line.slice(start).split(",")) {
    const found = ASSIGNMENT.exec(part);
    if (!found || parameters.has(found[1])) {
      throw new FormulaError("write parameters and their values after 'with', such as beta=1.5, gamma=2", line, start, start + Math.max(part.length, 1));
    }
    const [, name, value] = found;
    const problem = name === "x" ? "is the input" : !NAME.test(name) ? "is not a valid name" : parser.functions.has(name) || name === "pi" ? "is a function or a constant" : "";
    if (problem || !Number.isFinite(Number(value))) throw new FormulaError(`parameter '${name}' ${problem || "must be finite"}`, line, start, start + part.length);
    parameters.set(name, Number(value));
    start += part.length + 1;
  }
  return { text: line.slice(0, match.index), parameters };
}
