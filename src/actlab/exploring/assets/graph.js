// Turn the tree of a formula into a list of operations without repetitions, in forms that do not overflow or cancel.

import { FormulaError } from "./syntax.js";

/** Builds operations: {op, args, value, name, isConstant, source}; `args` are places in `nodes`. */
export class Graph {
  constructor(parser) {
    Object.assign(this, { parser, nodes: [], known: new Map() });
    this.x = this.make("x", []);
  }

  make(op, args, more = {}) {
    const key = `${op} ${args.join(" ")} ${more.value ?? more.name ?? more.sign ?? ""}`;
    if (!this.known.has(key)) {
      const isConstant = op !== "x" && args.every((one) => this.nodes[one].isConstant);
      this.known.set(key, this.nodes.push({ op, args, isConstant, source: this.source, ...more }) - 1);
      if (this.nodes.length > 3000) throw new FormulaError("is too long with all functions in it", ...Object.values(this.source));
    }
    return this.known.get(key);
  }

  number(value) { return this.make("number", [], { value }); }

  is(place, op, value) { return this.nodes[place].op === op && (value === undefined || this.nodes[place].value === value); }

  arg(place, i = 0) { return this.nodes[place].args[i]; }

  /** Return the place of a tree; `scope` has the places of its names, `text` is its line, null within a catalogue function. */
  build(tree, scope, text) {
    if (text !== null) this.source = { text, start: tree.start, end: tree.end };
    const build = (one) => this.build(one, scope, text), source = this.source;
    const args = (tree.args ?? []).map(build);
    this.source = source;
    switch (tree.kind) {
      case "number": return this.number(tree.value);
      case "name": return tree.name === "pi" && !scope.has("pi") ? this.number(Math.PI) : scope.get(tree.name);
      case "unary": return tree.sign === "-" ? this.negate(args[0]) : args[0];
      case "binary": return this.combine(tree.sign, ...args);
      case "and": case "or": return args.reduce((a, b) => this.make(tree.kind, [a, b]));
      case "not": return this.make("not", args);
      case "compare": return args.slice(1).map((one, i) => this.make("compare", [args[i], one], { sign: tree.signs[i] })).reduce((a, b) => this.make("and", [a, b]));
      default: return this.call(tree.name, args);
    }
  }

  call(name, args) {
    const takes = this.parser.functions.get(name);
    if (takes?.length !== args.length) return this.callCatalogue(name, args);
    if (name === "clip") return this.make("min", [this.make("max", [args[0], args[1]]), args[2]]);
    if (name === "log") return this.log(args[0]);
    return this.make(name, args);
  }

  callCatalogue(name, args) {
    const entry = this.parser.catalogue.get(name), defaults = Object.entries(entry.parameters);
    const tree = this.parser.parse(entry.formula, ["x", ...Object.keys(entry.parameters)]);
    const scope = new Map([["x", args[0]], ...defaults.map(([key, value], i) => [key, args[i + 1] ?? this.number(value)])]);
    return this.build(tree, scope, null);
  }

  negate(a) {
    if (this.is(a, "number")) return this.number(-this.nodes[a].value);
    return this.is(a, "negate") ? this.arg(a) : this.make("negate", [a]);
  }

  combine(sign, a, b) {
    if (sign === "+") return this.add(a, b);
    if (sign === "-") return this.subtract(a, b);
    if (sign === "*") return this.make("multiply", [a, b]);
    return sign === "/" ? this.divide(a, b) : this.make("power", [a, b]);
  }

  add(a, b) {
    if (this.is(b, "number", 1) && !this.is(a, "number")) [a, b] = [b, a];
    return this.is(a, "number", 1) && this.is(b, "erf") ? this.make("erfc", [this.negate(this.arg(b))]) : this.make("add", [a, b]);
  }

  subtract(a, b) {
    if (this.is(b, "number", 1) && this.is(a, "exp")) return this.make("expm1", [this.arg(a)]);
    if (this.is(a, "number", 1)) {
      if (this.is(b, "exp")) return this.negate(this.make("expm1", [this.arg(b)]));
      if (this.is(b, "erf")) return this.make("erfc", [this.arg(b)]);
      if (this.is(b, "sigmoid")) return this.make("sigmoid", [this.negate(this.arg(b))]);
    }
    return this.make("subtract", [a, b]);
  }

  /** Return the u of 1 + exp(u), or undefined. */
  findExponent(a) { return this.is(a, "add") && this.is(this.arg(a), "number", 1) && this.is(this.arg(a, 1), "exp") ? this.arg(this.arg(a, 1)) : undefined; }

  divide(a, b) {
    const u = this.findExponent(b);
    if (u !== undefined) {
      if (this.is(a, "exp") && this.arg(a) === u) return this.make("sigmoid", [u]);
      if (this.is(a, "expm1") && this.arg(a) === u) return this.make("tanh", [this.divide(u, this.number(2))]);
      const gate = this.make("sigmoid", [this.negate(u)]);
      return this.is(a, "number", 1) ? gate : this.make("multiply", [a, gate]);
    }
    const isPair = (one, op) => this.is(one, op) && one !== undefined && [0, 1].every((i) => this.is(this.arg(one, i), "exp"));
    if (isPair(a, "subtract") && isPair(b, "add") && [0, 1].every((i) => this.arg(a, i) === this.arg(b, i))) {
      const [v, w] = [0, 1].map((i) => this.arg(this.arg(a, i)));
      if (this.negate(v) === w || this.negate(w) === v) return this.make("tanh", [v]);
    }
    return this.is(a, "sinh") && this.is(b, "cosh") && this.arg(a) === this.arg(b) ? this.make("tanh", [this.arg(a)]) : this.make("divide", [a, b]);
  }

  log(a) {
    const u = this.findExponent(a);
    if (u !== undefined) return this.make("softplus", [u]);
    if (this.is(a, "add") && this.is(this.arg(a), "number", 1)) return this.make("log1p", [this.arg(a, 1)]);
    return this.is(a, "sigmoid") ? this.negate(this.make("softplus", [this.negate(this.arg(a))])) : this.make("log", [a]);
  }

  /** Return the operations that a place needs, in order, with places in this new list. */
  prune(root) {
    const needed = new Set([root]);
    for (let i = root; i >= 0; i--) if (needed.has(i)) this.nodes[i].args.forEach((one) => needed.add(one));
    const order = [...needed].sort((a, b) => a - b), places = new Map(order.map((old, i) => [old, i]));
    return order.map((old) => ({ ...this.nodes[old], args: this.nodes[old].args.map((one) => places.get(one)) }));
  }
}
