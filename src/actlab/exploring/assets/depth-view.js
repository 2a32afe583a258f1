// Section "Depth": signals and gradients in deep networks with random weights.

import { Chart, IDENTITY, el, fillTable, find, makeSlider, percent, readColours, show } from "./page.js";
import { PRESETS } from "./state.js";
import { RandomNetwork, ScaleMap, computeMoments, describeMoments, predict } from "./propagation.js";

const SMALLEST = 1e-300, LARGEST = 1e300;  // of the charts; a line ends there
const INK = 6;  // the colour of text, which is visible on the map
const COLUMNS = 80, ROWS = 40;  // of the map
const FAINTEST = 6;  // a gradient of 1e-6 or 1e6 has the full colour

export class DepthView {
  constructor(state, onchange) {
    Object.assign(this, { state, onchange, network: new RandomNetwork(0), timer: 0 });
    const charts = find("depth-charts");
    this.signal = new Chart(charts, { title: "Signal: variance by layer", xLabel: "layer", log: true });
    this.gradient = new Chart(charts, { title: "Gradient: mean square, relative to the last layer", xLabel: "layer", log: true });
    this.shares = new Chart(charts, { title: "Saturated values; circles: dead units", xLabel: "layer" });
    this.map = new Chart(charts, { title: "Weight scale and bias scale", xLabel: "weight scale σ_w (vertical: bias scale σ_b)", drags: true, onpoint: (x, y) => { this.release(); this.set(round(x), round(y)); onchange(); } });
    const { depth } = state, change = (part) => (value) => { depth[part] = value; onchange(); }, scale = (part) => (value) => { this.release(); change(part)(value); };
    this.identity = state.read(IDENTITY);
    this.sliders = {
      layers: makeSlider({ id: "layers", label: "Layers", low: 1, high: 100, step: 1, value: depth.layers, onchange: (value) => change("layers")(Math.round(value)) }),
      sigmaW: makeSlider({ id: "sigma-w", label: "Weight scale σ_w", low: 0, high: 4, step: 0.01, value: depth.sigmaW, onchange: scale("sigmaW") }),
      sigmaB: makeSlider({ id: "sigma-b", label: "Bias scale σ_b", low: 0, high: 2, step: 0.01, value: depth.sigmaB, onchange: scale("sigmaB") }),
    };
    find("depth-sliders").append(...Object.values(this.sliders).map(({ element }) => element));
    find("depth-function").addEventListener("change", (event) => { depth.index = Number(event.target.value); onchange(); });
    this.load();
    for (const name of PRESETS) find(name).addEventListener("click", () => { this.release(name); this.applyPreset(); onchange(); });
  }

  /** Show the settings of the state. */
  load() {
    const { layers, sigmaW, sigmaB, preset } = this.state.depth;
    this.sliders.layers.set(layers);
    this.set(sigmaW, sigmaB);
    this.release(preset);
    this.spec = "";  // of no function, so that the next update applies the preset
  }

  set(sigmaW, sigmaB) {
    Object.assign(this.state.depth, { sigmaW: Math.min(4, sigmaW), sigmaB: Math.min(2, sigmaB) });
    this.sliders.sigmaW.set(this.state.depth.sigmaW);
    this.sliders.sigmaB.set(this.state.depth.sigmaB);
  }

  /** Keep another preset, or none. */
  release(preset = "") {
    this.state.depth.preset = preset;
    for (const name of PRESETS) find(name).setAttribute("aria-pressed", name === preset);
  }

  applyPreset() {
    const { gain, critical } = describeMoments(this.moments);
    const scales = { matched: Number.isFinite(gain) && [gain, 0], critical, default: [Math.sqrt(1 / 3), Math.sqrt(1 / 300)] }[this.state.depth.preset];
    if (scales) this.set(...scales);
    else this.release();
  }

  update() {
    const { depth, functions } = this.state, activation = functions[depth.index] ?? this.identity, titles = ["identity (no activation)", ...functions.map((one) => one.title)];
    find("depth-function").replaceChildren(...titles.map((title, i) => el("option", { value: i - 1, selected: i - 1 === depth.index }, title)));
    this.moments = computeMoments(activation);
    if (this.spec !== activation.spec) this.applyPreset();
    this.spec = activation.spec;
    const { critical, gain, varianceSlope } = describeMoments(this.moments);
    find("critical").disabled = !critical;
    find("matched").disabled = !Number.isFinite(gain);
    const theory = predict(activation, depth.layers, depth.sigmaW, depth.sigmaB);
    this.draw(theory);
    if (!this.key) this.computeMap(activation);
    this.drawMap(critical);
    // The map and the sampled network take longer, and the text is read aloud: they follow when the sliders rest.
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.describe(activation, theory, critical, gain, varianceSlope);
      const sampled = this.network.measure(activation, depth.layers, depth.sigmaW, depth.sigmaB);
      const others = functions.map((one) => one === activation ? null : predict(one, depth.layers, depth.sigmaW, depth.sigmaB));
      this.draw(theory, sampled, others);
      this.fillTable(theory, sampled);
      this.computeMap(activation);
      this.drawMap(critical);
    }, 120);
  }

  /** Draw the theory, and when they are known the sampled network and the theory for the other functions. */
  draw(theory, sampled = [], others = []) {
    const { depth, functions } = this.state, name = (functions[depth.index] ?? this.identity).label, series = depth.index < 0 ? INK : depth.index, x = theory.map(({ layer }) => layer), xRange = [1, Math.max(2, depth.layers)];
    const every = Math.ceil(depth.layers / 25), shown = sampled.filter(({ layer }) => (layer - 1) % every === 0 || layer === depth.layers);
    const limit = (value) => value >= SMALLEST && value <= LARGEST ? value : NaN;
    const trace = (part) => others.flatMap((layers, i) => layers ? [{ series: i, name: functions[i].label, x, y: layers.map((one) => limit(one[part])), faint: true }] : []);
    for (const [chart, part] of [[this.signal, "q"], [this.gradient, "gradient"]]) {
      const y = theory.map((one) => limit(one[part])), all = y.concat(shown.map((one) => limit(one[part]))).filter(Number.isFinite), low = Math.min(...all), high = Math.max(...all);
      const yRange = [Math.min(low / 2, 0.1), Math.max(high * 2, 10)];
      chart.draw({ xRange, yRange, lines: [...trace(part), { series, name, x, y }], marks: shown.map((one) => ({ x: one.layer, y: limit(one[part]), series })), rules: [],
        alt: `theory as a line, one sampled network as dots; ${show(theory[0][part], 3)} in layer 1 and ${show(theory.at(-1)[part], 3)} in layer ${depth.layers}` });
    }
    const lines = [...trace("saturated"), { series, name, x, y: theory.map(({ saturated }) => saturated) }];
    const marks = shown.flatMap(({ layer, saturated, dead }) => [{ x: layer, y: saturated, series }, { x: layer, y: dead, series, kind: "open" }]);
    this.shares.draw({ xRange, yRange: [0, 1], lines, marks,
      alt: `${percent(theory[0].saturated)} of the values saturated in layer 1 and ${percent(theory.at(-1).saturated)} in layer ${depth.layers}` });
  }

  /** Compute the colours and the curve of the map, which takes longer than a frame. */
  computeMap(activation) {
    const { layers } = this.state.depth, colours = readColours(this.map.svg), key = `${activation.spec} ${layers} ${colours}`;
    if (key === this.key) return;
    const map = new ScaleMap(activation);
    this.curve = map.traceCriticalCurve().filter(([w, b]) => w <= 6 && b <= 4);
    this.image = paintGradients(map, layers, colours);
    this.key = key;
  }

  drawMap(critical) {
    const { sigmaW, sigmaB } = this.state.depth;
    const marks = [{ x: sigmaW, y: sigmaB, series: INK, kind: "large" }];
    if (critical) marks.push({ x: critical[0], y: critical[1], series: INK, kind: "open" });
    this.map.draw({ xRange: [0, 4], yRange: [0, 2], lines: [{ series: INK, x: this.curve.map(([w]) => w), y: this.curve.map(([, b]) => b), dash: 1 }], marks, image: this.image,
      alt: `the chosen point is σ_w = ${show(sigmaW)}, σ_b = ${show(sigmaB)}; ${critical ? `the critical point is σ_w = ${show(critical[0])}, σ_b = ${show(critical[1])}` : "there is no critical point"}. The sliders move the chosen point.` });
  }

  describe(activation, theory, critical, gain, varianceSlope) {
    const { layers } = this.state.depth, { gradient } = theory[0], { q } = theory.at(-1), perLayer = (value) => value ** (1 / Math.max(1, layers - 1));
    const size = (value) => perLayer(value) > 1.02 ? "grows" : perLayer(value) < 0.98 ? "shrinks" : "keeps its size";
    const sentences = [`From layer 1 to layer ${layers}, the signal ${size(q)}: its variance goes from 1 to ${show(q, 3)}.`,
      `Back from layer ${layers} to layer 1, the gradient ${size(gradient)}: its mean square changes by a factor of ${show(gradient, 3)}${Number.isFinite(gradient) ? `, ${show(perLayer(gradient), 3)} per layer` : ""}.`];
    sentences.push(critical ? `The critical point of ${activation.label} is σ_w = ${show(critical[0])}, σ_b = ${show(critical[1])}: there, inputs of variance 1 and gradients keep their size.`
      : `${activation.label} has no critical point: with inputs of variance 1, no weight scale and bias scale keep both signals and gradients at their size.`);
    if (Number.isFinite(gain)) sentences.push(`Matched initialization has σ_w = ${show(gain)}, the gain, and no biases.`);
    find("depth-text").textContent = sentences.join(" ").replaceAll(" = ", "\u00a0=\u00a0");
    const change = varianceSlope > 1.005 ? "grow" : varianceSlope < 0.995 ? "shrink" : "stay";
    find("slope-text").textContent = Number.isFinite(varianceSlope)
      ? `With matched initialization, deviations of a sample from variance 1 ${change}: their factor per layer, the variance slope, is ${show(varianceSlope, 3)}.` : "";
  }

  fillTable(theory, sampled) {
    const { layers } = this.state.depth, chosen = [...new Set([1, 2, 3, 5, 10, 20, 30, 50, 75, layers])].filter((layer) => layer <= layers).sort((a, b) => a - b);
    fillTable(find("depth-table"), ["layer", "variance, theory", "sampled", "gradient, theory", "sampled", "saturated, theory", "sampled", "dead units, sampled"], chosen.map((layer) => {
      const one = theory[layer - 1], other = sampled[layer - 1];
      return [String(layer), show(one.q), show(other.q), show(one.gradient), show(other.gradient), percent(one.saturated), percent(other.saturated), percent(other.dead)];
    }));
  }
}

/** Return an image of the map: vanishing gradients in one colour, exploding ones in another. */
function paintGradients(map, layers, [low, high, back]) {
  const canvas = el("canvas", { width: COLUMNS, height: ROWS }), context = canvas.getContext("2d"), image = context.createImageData(COLUMNS, ROWS);
  for (let i = 0; i < COLUMNS * ROWS; i++) {
    const sigmaW = 4 * (i % COLUMNS + 0.5) / COLUMNS, sigmaB = 2 * (ROWS - Math.floor(i / COLUMNS) - 0.5) / ROWS;
    const size = map.computeGradient(layers, sigmaW, sigmaB), strength = 0.7 * Math.min(1, Math.abs(size) / FAINTEST), colour = size < 0 ? low : high;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = back[c] + (colour[c] - back[c]) * strength;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

const round = (value) => Math.round(value * 100) / 100;
