// What the page shows: the functions, and the settings of every section. A link holds all of it.

import { Formula, splitFormula } from "./formula.js";
import { DATASETS } from "./network.js";
import { IDENTITY, nameWithValues } from "./page.js";
import { FormulaError, suggest } from "./syntax.js";

export const MOST_LAYERS = 10;
export const PRESETS = ["matched", "critical", "default"];  // of the scales of weights and biases
const LONGEST_LINK = 20000;

/** A function with values of its parameters. */
class Activation {
  constructor(parser, name, entry, formula, values) {
    Object.assign(this, { name, entry, values });
    this.formula = new Formula(parser, formula, values);
    this.kinks = this.formula.findKinks();
  }

  get isFormula() { return !this.entry; }

  /** The text that names it on the command line. */
  get spec() {
    const given = [...this.values].filter(([name, value]) => this.isFormula || value !== this.getDefault(name)).map(([name, value]) => `${name}=${value}`).join(", ");
    if (this.isFormula) return `formula:${this.formula.text}${given ? ` with ${given}` : ""}`;
    return given ? `${this.name}(${given})` : this.name;
  }

  get label() { return this.spec === "formula:x" ? "identity" : this.spec.replace(/^formula:/, ""); }

  /** The label, with the values of parameters that it omits. */
  get title() { return this.isDefault ? nameWithValues(this.name, [...this.values]) : this.label; }

  getDefault(name) { return this.entry.parameters.find((one) => one.name === name).value; }

  /** Whether the parameters have the values for which the definition states its facts. */
  get isDefault() { return !this.isFormula && [...this.values].every(([name, value]) => value === this.getDefault(name)); }

  /** Ranges of the sliders. */
  listParameters() {
    return [...this.values].map(([name, value]) => this.entry?.parameters.find((one) => one.name === name)
      ?? { name, low: Math.min(-1, -3 * Math.abs(value)), high: Math.max(1, 3 * Math.abs(value)), step: 0.01 });
  }

  set(name, value) {
    this.values.set(name, value);
    this.formula.bind(this.values.values());
    this.kinks = this.formula.findKinks();
  }
}

export class State {
  constructor(parser, entries, functions, most) {
    Object.assign(this, { parser, entries, most });
    this.functions = functions.map((spec) => this.read(spec));
    this.view = { centre: 0, width: 8, at: 1, density: true, format: "none" };
    this.depth = { index: 0, layers: 30, sigmaW: 1, sigmaB: 0, preset: "" };
    this.train = { data: "moons", layers: 2, rate: 0.05, seed: 0, matched: false, stop: 0, sides: ["#0", "#1"].map((choice) => Array(MOST_LAYERS).fill(choice)) };
  }

  /** Return the activation of a spec: a name, a name with values, or "formula:..."; throw a FormulaError if it is none. */
  read(given) {
    const spec = given.trim(), isFormula = spec.startsWith("formula:");
    if (isFormula || spec.length > 300 || spec === "x" || (!this.entries.has(spec) && !/^[A-Za-z]\w*(\(\s*(\w+\s*=\s*[-+\d.eE]+\s*,?\s*)*\))?$/.test(spec))) {
      const { text, parameters } = splitFormula(isFormula ? spec.slice(8) : spec, this.parser);
      const activation = new Activation(this.parser, null, null, text, parameters);
      activation.formula.check();
      return activation;
    }
    const name = this.entries.has(spec) ? spec : spec.replace(/\(.*/s, ""), entry = this.entries.get(name);
    if (!entry) throw new FormulaError(`unknown function '${name.slice(0, 40)}'${suggest(name, this.entries.keys())}`);
    const values = new Map(entry.parameters.map((one) => [one.name, one.value]));
    for (const [, key, value] of this.entries.has(spec) ? [] : spec.matchAll(/(\w+)\s*=\s*([-+\d.eE]+)/g)) {
      if (!values.has(key)) throw new FormulaError(`${name} has no parameter '${key}'${suggest(key, values.keys())}`);
      if (!(Math.abs(Number(value)) < 1e6)) throw new FormulaError(`${name}: ${key} must be a number below 1e6`);
      values.set(key, Number(value));
    }
    return new Activation(this.parser, name, entry, entry.formula, values);
  }

  /** Return the activation that a choice of a layer names: "#0" is the first chosen function. */
  choose(choice) {
    if (choice.startsWith("#")) return this.functions[Number(choice.slice(1))] ?? this.functions[0];
    return this.read(choice);
  }

  remove(index) {
    this.functions.splice(index, 1);
    const move = (choice) => choice[0] !== "#" || Number(choice.slice(1)) < index ? choice : `#${Math.max(0, Number(choice.slice(1)) - 1)}`;
    this.train.sides = this.train.sides.map((side) => side.map(move));
    this.depth.index = Math.min(this.depth.index, this.functions.length - 1);
  }

  /** Take over the functions and the settings of another state. */
  become({ functions, view, depth, train }) {
    this.functions = functions;
    Object.assign(this.view, view);
    Object.assign(this.depth, depth);
    Object.assign(this.train, train);
  }

  /** Return the whole state as the fragment of a link. */
  write() {
    const { view, depth, train } = this, parts = new URLSearchParams();
    this.functions.forEach((one) => parts.append("f", one.spec));
    parts.set("view", [view.centre, view.width, view.at, view.density ? "density" : "plain", view.format].join());
    parts.set("depth", [depth.index, depth.layers, ...[depth.sigmaW, depth.sigmaB].map((scale) => Number(scale.toPrecision(6))), ...(depth.preset ? [depth.preset] : [])].join());
    parts.set("train", [train.data, train.layers, train.rate, train.seed, train.matched ? "matched" : "torch", ...(train.stop ? [train.stop] : [])].join());
    train.sides.forEach((side, i) => parts.set("ab"[i], side.slice(0, train.layers).join(";")));
    return parts.toString().replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%28", "(").replaceAll("%29", ")");
  }

  /** Take what is valid from the fragment of a link; return problems, one for each part that is not. */
  restore(fragment) {
    const problems = [], text = fragment.replace(/^#/, "");
    if (text.length > LONGEST_LINK) return ["The link is too long. It was ignored."];
    const parts = new URLSearchParams(text), functions = [];
    const attempt = (what, action) => {
      try { action(); } catch (error) { problems.push(`${what} in the link was ignored: ${error.message}`); }
    };
    for (const spec of parts.getAll("f").slice(0, this.most)) attempt("A function", () => functions.push(this.read(spec)));
    if (functions.length) this.functions = functions;
    const number = (value, low, high, isWhole = false) => {
      const one = Number(value);
      if (value === "" || !(one >= low && one <= high) || (isWhole && !Number.isInteger(one))) throw new Error(`a number from ${low} to ${high} is expected`);
      return one;
    };
    const oneOf = (value, names) => {
      if (!names.includes(value)) throw new Error(`one of ${names.join(", ")} is expected`);
      return value;
    };
    if (parts.has("view")) attempt("The view", () => {
      const [centre, width, at, density, format] = parts.get("view").split(",");
      this.view = { centre: number(centre, -1e4, 1e4), width: number(width, 1e-6, 1e4), at: number(at, -1e5, 1e5),
        density: oneOf(density, ["density", "plain"]) === "density", format: oneOf(format, ["none", "float16", "bfloat16"]) };
    });
    if (parts.has("depth")) attempt("The depth", () => {
      const [index, layers, sigmaW, sigmaB, preset = ""] = parts.get("depth").split(",");
      this.depth = { index: number(index, -1, this.functions.length - 1, true), layers: number(layers, 1, 100, true), sigmaW: number(sigmaW, 0, 4), sigmaB: number(sigmaB, 0, 2), preset: oneOf(preset, ["", ...PRESETS]) };
    });
    if (parts.has("train")) attempt("The training", () => {
      const [data, layers, rate, seed, init, stop = "0"] = parts.get("train").split(",");
      Object.assign(this.train, { data: oneOf(data, [...DATASETS.keys()]), layers: number(layers, 1, MOST_LAYERS, true), rate: number(rate, 1e-5, 10),
        seed: number(seed, 0, 1e6, true), matched: oneOf(init, ["torch", "matched"]) === "matched", stop: number(stop, 0, 1e6, true) });
    });
    ["a", "b"].forEach((key, i) => {
      if (parts.has(key)) attempt("A layer", () => {
        const choices = parts.get(key).split(";").slice(0, MOST_LAYERS);
        for (const choice of choices) if (!/^#[0-9]$/.test(choice) && choice !== IDENTITY && !this.entries.has(choice)) throw new Error("its activation is unknown");
        this.train.sides[i] = Array.from({ length: MOST_LAYERS }, (_, l) => choices[l] ?? choices.at(-1));
      });
    });
    return problems;
  }
}
