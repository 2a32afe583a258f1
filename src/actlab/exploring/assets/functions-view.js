// Section "Functions": curves, derivatives, kinks, limits, and where normal inputs land.

import { getSpacing, roundTo } from "./formats.js";
import { Chart, drawSwatch, el, fillTable, find, listOptions, makeSlider, percent, show } from "./page.js";
import { computeMoments, computeSaturated, describeMoments } from "./propagation.js";
import { FormulaError } from "./syntax.js";

const POINTS = 600, BINS = 60, SHOWN_KINKS = 4;

export class FunctionsView {
  constructor(state, onchange) {
    Object.assign(this, { state, onchange });
    const charts = find("curves"), read = (x) => this.readAt(x);
    this.charts = ["f(x)", "f′(x)", "f″(x)"].map((title) => new Chart(charts, { title, xLabel: "x", onpoint: read }));
    this.outputs = new Chart(charts, { title: "f(z) for inputs z ~ N(0, 1)", xLabel: "value" });
    this.setUpChoices();
    this.setUpWindow();
    this.load();
  }

  /** Show the functions and the settings of the state. */
  load() {
    const { view } = this.state;
    this.listFunctions();
    for (const part of ["width", "centre", "at"]) this[part].set(view[part]);
    find("density").checked = view.density;
    find("format").value = view.format;
  }

  setUpChoices() {
    const { entries } = this.state, choice = find("catalogue");
    choice.append(...listOptions(entries));
    choice.value = "mish";
    find("add-name").addEventListener("click", () => this.add(choice.value));
    find("formula-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.add(find("formula").value);
    });
  }

  add(spec) {
    const problem = find("formula-problem"), { functions } = this.state;
    problem.textContent = "";
    try {
      if (functions.length >= this.state.most) throw new FormulaError(`at most ${this.state.most} functions fit on the page; remove one first`);
      const added = this.state.read(spec);
      if (functions.some((one) => one.spec === added.spec)) throw new FormulaError(`${added.label.slice(0, 60)} is on the page already`);
      functions.push(added);
    } catch (error) {
      if (!(error instanceof FormulaError)) throw error;
      const name = /^formula: unknown name '(\w+)'/.exec(error.message)?.[1];
      problem.textContent = error.describe().replace(/^formula: /, "")
        + (name && !/\bwith\b/.test(spec) ? `\nIf ${name} is a parameter, write the value after the formula: ${spec.slice(0, 60)} with ${name}=1` : "");
      return;
    }
    this.listFunctions();
    this.onchange();
  }

  /** Show the chosen functions with the sliders of their parameters. */
  listFunctions() {
    const { functions } = this.state;
    find("chosen").replaceChildren(...functions.map((one, i) => {
      const remove = el("button", { type: "button", "aria-label": `Remove ${one.label}`, disabled: functions.length === 1, onclick: () => {
        this.state.remove(i);
        this.listFunctions();
        this.onchange();
        find("catalogue").focus();
      } }, "Remove");
      const name = el("bdi", { class: "name" }, one.label);
      const sliders = one.listParameters().map(({ name: parameter, low, high, step }) => makeSlider({
        id: `p-${i}-${parameter}`, label: parameter, low, high, step, value: one.values.get(parameter), onchange: (value) => {
          one.set(parameter, value);
          name.textContent = one.label;
          this.onchange();
        },
      }).element);
      return el("li", {}, el("div", { class: "head" }, drawSwatch(i), name, remove), el("code", {}, one.formula.text), ...sliders);
    }));
  }

  setUpWindow() {
    const { view } = this.state, update = (change) => { Object.assign(view, change); this.onchange(); };
    this.width = makeSlider({ id: "width", label: "Width", low: 1e-6, high: 1e4, log: true, value: view.width, onchange: (value) => update({ width: value }) });
    this.centre = makeSlider({ id: "centre", label: "Centre", low: -20, high: 20, step: 0.05, value: view.centre, onchange: (value) => update({ centre: value }), digits: 8 });
    this.at = makeSlider({ id: "at", label: "Read at x", low: -20, high: 20, step: 0.01, value: view.at, onchange: (value) => update({ at: value }), digits: 6 });
    find("window").append(this.at.element, this.width.element, this.centre.element);
    find("density").addEventListener("change", (event) => update({ density: event.target.checked }));
    find("format").addEventListener("change", (event) => update({ format: event.target.value }));
    find("zoom").addEventListener("click", () => {
      const width = 40 * getSpacing(view.at || 1, view.format);
      this.move({ centre: view.at, width });
    });
    find("reset-window").addEventListener("click", () => this.move({ centre: 0, width: 8 }));
  }

  move(change) {
    Object.assign(this.state.view, change);
    this.width.set(this.state.view.width);
    this.centre.set(this.state.view.centre);
    this.onchange();
  }

  /** Read the values at a round number near x, so that the pointer can hit a kink. */
  readAt(x) {
    const step = 10 ** Math.floor(Math.log10(this.state.view.width / 200));
    this.state.view.at = Number((Math.round(x / step) * step).toPrecision(8));
    this.at.set(this.state.view.at);
    this.onchange();
  }

  /** Return points of the window, with both sides of every kink. */
  listPoints({ kinks }, low, high) {
    const x = Array.from({ length: POINTS + 1 }, (_, i) => low + (high - low) * i / POINTS), tiny = (high - low) * 1e-9;
    for (const { x: at } of kinks) if (at > low && at < high) x.push(at - tiny, at, at + tiny);
    return Float64Array.from(x).sort();
  }

  /** Draw the curves; new functions also change facts and outputs. */
  update(hasNewFunctions) {
    const { functions, view } = this.state, low = view.centre - view.width / 2, high = view.centre + view.width / 2;
    const orders = [[], [], []], marks = [[], [], []];
    functions.forEach((one, series) => {
      const x = this.listPoints(one, low, high), result = one.formula.evaluate(x), breaks = new Map(one.kinks.map((kink) => [kink.x, kink]));
      [result.v, result.d, result.s].forEach((values, order) => {
        // A line does not join the two sides of a jump.
        const y = values.slice(0, x.length), isBroken = (at) => breaks.has(at) && (order > 0 || breaks.get(at).jump);
        // Lines below others are wider, so that equal parts show both.
        orders[order].push({ series, width: 2 + 3 * (functions.length - 1 - series) / Math.max(1, functions.length - 1), name: one.label, x, y: y.map((value, i) => isBroken(x[i]) ? NaN : value) });
      });
      for (const { x: at, value, slope, left, right, jump, below, above } of one.kinks) {
        marks[0].push(...(jump ? [below, above].filter((y) => y !== value).map((y) => ({ x: at, y, series, kind: "open" })) : []), { x: at, y: value, series });
        marks[1].push(...[left, right].filter((y) => Math.abs(y - slope) > 1e-6).map((y) => ({ x: at, y, series, kind: "open" })), { x: at, y: slope, series });
      }
    });
    const areas = view.density ? [makeDensity(low, high)] : [], rounded = view.format === "none" ? [] : this.roundLines(orders[0]);
    this.charts.forEach((chart, order) => chart.draw({
      xRange: [low, high], yRange: chooseRange(orders[order], order === 0 ? view.width / 2 : 0), lines: order === 0 && rounded.length ? [...orders[0].map((line) => ({ ...line, faint: true })), ...rounded] : orders[order],
      marks: marks[order], areas, rules: [view.at], alt: `${functions.map((one) => one.label).join(", ")} for x from ${show(low)} to ${show(high)}. The table of values follows.`,
    }));
    this.fillValues();
    if (hasNewFunctions) {
      this.drawOutputs();
      this.fillFacts();
    }
    this.describeFormat(low, high, orders[0], rounded);
  }

  roundLines(lines) {
    const { format } = this.state.view, { functions } = this.state;
    return lines.map(({ series, x }) => {
      const y = functions[series].formula.evaluate(x.map((one) => roundTo(one, format)), 0).v;
      return { series, x, y: y.slice(0, x.length).map((one) => roundTo(one, format)) };
    });
  }

  describeFormat(low, high, exact, rounded) {
    const { view, functions } = this.state, { format } = view;
    find("zoom").hidden = format === "none";
    if (!rounded.length) { find("format-text").textContent = ""; return; }
    const spacing = getSpacing(view.at, format), worst = functions.map((one, i) => {
      const errors = rounded[i].y.map((y, k) => Math.abs(y - exact[i].y[k])).filter(Number.isFinite);
      return `${one.label}: at most ${show(Math.max(0, ...errors), 3)} from the exact value in this window`;
    });
    find("format-text").textContent = `At x = ${show(view.at)}, neighbours in ${format} are ${show(spacing, 3)} apart. Input and value are rounded to ${format}. ${worst.join("; ")}.`;
  }

  /** Show the distribution of outputs for 4000 inputs at equal steps of probability. */
  drawOutputs() {
    const { functions } = this.state, z = NORMAL_QUANTILES, values = functions.map((one) => one.formula.evaluate(z, 0).v.slice(0, z.length));
    const finite = values.flatMap((one) => { const sorted = one.filter(Number.isFinite).sort(); return [sorted[Math.floor(sorted.length * 0.005)], sorted[Math.floor(sorted.length * 0.995)]]; });
    const low = Math.max(-10, Math.min(...finite)), high = Math.min(10, Math.max(...finite)), pad = (high - low || 1) * 0.05, range = [low - pad, high + pad];
    const lines = values.map((one, series) => {
      const shares = new Float64Array(BINS);
      one.forEach((value) => {
        const bin = Math.floor((value - range[0]) / (range[1] - range[0]) * BINS);
        if (bin >= 0 && bin < BINS) shares[bin] += 1 / z.length;
      });
      const edges = Array.from({ length: BINS + 1 }, (_, i) => range[0] + (range[1] - range[0]) * i / BINS);
      return { series, name: functions[series].label, x: [edges[0], ...edges.slice(0, -1).flatMap((edge, i) => [edge, edges[i + 1]]), edges[BINS]], y: [0, ...[...shares].flatMap((share) => [share, share]), 0] };
    });
    const top = Math.max(...lines.flatMap(({ y }) => y));
    this.outputs.draw({ xRange: range, yRange: [0, top * 1.05], lines, alt: "share of the outputs in each of 60 intervals. The table of means and variances follows." });
  }

  fillValues() {
    const { functions, view } = this.state;
    find("values-x").textContent = show(view.at, 6);
    fillTable(find("values"), ["function", "f", "f′", "f″"], functions.map((one) => [one.label, ...one.formula.at(view.at).map((value) => show(value, 6))]));
  }

  fillFacts() {
    const { functions } = this.state;
    const pair = (values) => values.every(Number.isNaN) ? "none (oscillates)" : values.map((value) => show(value)).join(" and ");
    fillTable(find("facts"), ["function", "at −∞ and +∞", "slope at −∞ and +∞", "kinks: derivative", "mean", "variance", "|f′| < 0.05", "gain"], functions.map((one) => {
      const { limits, slopes } = getLimits(one), moments = computeMoments(one), { gain } = describeMoments(moments);
      const shown = one.kinks.toSorted((a, b) => Math.abs(a.x) - Math.abs(b.x)).slice(0, SHOWN_KINKS), more = one.kinks.length - shown.length;
      const kinks = shown.map(({ x, slope, jump }) => `f′(${show(x)}) = ${show(slope)}${jump ? " (jump)" : ""}`).concat(more ? `and ${more} more` : []).join(", ") || "none";
      return [one.label, pair(limits), pair(slopes), kinks, show(Math.abs(moments.mean) < 1e-12 ? 0 : moments.mean), show(moments.second - moments.mean ** 2), percent(computeSaturated(one)), show(gain)];
    }));
    find("papers").replaceChildren(...functions.filter((one) => one.entry).map((one) => el("li", {}, `${one.name}: ${one.entry.summary} Source: ${one.entry.paper}.`)));
  }
}

/** Return limits and slopes at both ends: those of the definition, or estimates for other parameters and formulas. */
function getLimits(activation) {
  const read = (values) => values.map((value) => value === null ? NaN : Number(value));
  if (activation.isDefault) return { limits: read(activation.entry.limits), slopes: read(activation.entry.slopes) };
  return activation.formula.findLimits();
}

const NORMAL_QUANTILES = (() => {
  const n = 4000, z = new Float64Array(n), step = 1e-3;
  for (let at = -5, probability = 0, i = 0; i < n; at += step) {
    probability += step * Math.exp(-at * at / 2) / Math.sqrt(2 * Math.PI);
    while (i < n && probability >= (i + 0.5) / n * 0.999999) z[i++] = at;
  }
  return z;
})();

function makeDensity(low, high) {
  const x = Array.from({ length: 101 }, (_, i) => low + (high - low) * i / 100);
  return { x, y: x.map((one) => 0.6 * Math.exp(-one * one / 2)) };
}

/** Return a range that shows most of the lines: a steep one does not flatten the others. */
function chooseRange(lines, reach) {
  const ends = lines.map(({ y }) => { const finite = [...y].filter(Number.isFinite); return finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 1]; });
  const sizes = ends.map(([low, high]) => Math.max(Math.abs(low), Math.abs(high))).sort((a, b) => a - b), middle = sizes[Math.floor((sizes.length - 1) / 2)];
  const bound = Math.max(1.25, reach, 3 * middle) || 1, spread = Math.max(...ends.map(([low, high]) => high - low));
  let low = Math.max(-bound, Math.min(...ends.map(([one]) => one))), high = Math.min(bound, Math.max(...ends.map(([, one]) => one)));
  if (reach && reach < 1) [low, high] = [Math.min(...ends.map(([one]) => one)), Math.max(...ends.map(([, one]) => one))];
  if (!(high > low)) [low, high] = [low - (spread || 1), low + (spread || 1)];
  const pad = 0.06 * (high - low);
  return [low - pad, high + pad];
}
