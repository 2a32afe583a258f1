// Section "Train": two small networks learn the same data from the same weights.

import { DATASETS, Network, Training, makeData } from "./network.js";
import { Chart, drawSwatch, el, fillTable, find, listOptions, makeSlider, percent, readColours, show } from "./page.js";
import { MOST_LAYERS } from "./state.js";

const WIDTH = 16, GRID = 48, REACH = 2, BATCH = 128, MOMENTUM = 0.9;
const BUDGET = [12, 60];  // least and most milliseconds of training per frame; between them, as long as the last picture took
const CALM = 1000;  // milliseconds between pictures for users who prefer less motion
const NETWORK_SERIES = [6, 3];  // colours of networks A and B, which are not those of the classes
const LONGEST = 150;  // points of the loss curve
const FRESH = 2e6;  // added to the seed of the training samples for that of the new samples, above every seed

export class TrainView {
  constructor(state, onchange) {
    Object.assign(this, { state, onchange, isRunning: false });
    const { train } = state, restart = (change) => { Object.assign(train, change); this.reset(); onchange(); };
    find("data").append(...[...DATASETS].map(([name, { title }]) => el("option", { value: name }, title)));
    find("data").addEventListener("change", (event) => restart({ data: event.target.value }));
    find("hidden").append(...Array.from({ length: MOST_LAYERS }, (_, i) => el("option", {}, String(i + 1))));
    find("hidden").addEventListener("change", (event) => { train.layers = Number(event.target.value); this.listLayers(); restart({}); });
    find("seed").addEventListener("change", (event) => {
      const seed = Math.min(1e6, Math.max(0, Math.floor(Number(event.target.value) || 0)));
      event.target.value = String(seed);
      restart({ seed });
    });
    find("init").addEventListener("change", (event) => restart({ matched: event.target.value === "matched" }));
    this.rate = makeSlider({ id: "rate", label: "Learning rate", low: 1e-4, high: 10, log: true, value: train.rate, onchange: (value) => {
      train.rate = this.training.rate = value;
      if (this.training.steps && !this.isRunning) find("train-status").textContent = "The networks keep their weights. Press Reset for new ones.";
      onchange();
    } });
    find("rate-slot").append(this.rate.element);
    find("start").addEventListener("click", () => this.toggle());
    find("step").addEventListener("click", () => { this.training.advance(); this.show(); this.report(); });
    find("reset").addEventListener("click", () => { this.pause(); this.reset(); });
    find("stop").addEventListener("change", (event) => {
      train.stop = Math.min(1e6, Math.max(0, Math.floor(Number(event.target.value) || 0)));
      event.target.value = train.stop || "";
      onchange();
    });
    this.surfaces = [find("surface-a"), find("surface-b")];
    this.loss = new Chart(find("loss"), { title: "Loss of the training batches, smoothed", xLabel: "step", log: true, height: 190 });
    ["a", "b"].forEach((side, i) => find(`name-${side}`).prepend(drawSwatch(NETWORK_SERIES[i], i)));
    this.load();
  }

  /** Show the settings of the state, and make networks. */
  load() {
    const { train } = this.state;
    find("data").value = train.data;
    find("hidden").value = String(train.layers);
    find("seed").value = String(train.seed);
    find("init").value = train.matched ? "matched" : "torch";
    find("stop").value = train.stop || "";
    this.rate.set(train.rate);
    this.used = [];
    this.listLayers();
  }

  /** Show for each network one choice for all layers, and one choice per layer. */
  listLayers() {
    const { train } = this.state;
    ["a", "b"].forEach((side, i) => {
      const choose = (id, label, layers) => {
        const select = el("select", { id, onchange: (event) => {
          for (const l of layers) train.sides[i][l] = event.target.value;
          this.functionsChanged();
          this.reset();
          this.onchange();
        } });
        return el("div", { class: "slider" }, el("label", { for: id }, label), select);
      };
      const choices = Array.from({ length: train.layers }, (_, l) => choose(`${side}-${l}`, `Layer ${l + 1}`, [l]));
      find(`all-${side}`).replaceChildren(choose(`${side}-all`, "All layers", [...Array(MOST_LAYERS).keys()]));
      find(`layers-${side}`).replaceChildren(...choices);
    });
    this.functionsChanged();
  }

  /** Update the choices after the list of functions has changed. */
  functionsChanged() {
    const { train, functions, entries } = this.state;
    ["a", "b"].forEach((side, i) => {
      const choices = train.sides[i].slice(0, train.layers).map((choice) => choice.startsWith("#") && !functions[Number(choice.slice(1))] ? "#0" : choice);
      const isMixed = new Set(choices).size > 1;
      [isMixed ? "" : choices[0], ...choices].forEach((choice, place) => {
        const chosen = functions.map((one, k) => el("option", { value: `#${k}` }, one.title)), [identity, ...others] = listOptions(entries);
        const select = find(`${side}-${place ? place - 1 : "all"}`), mixed = isMixed && !place ? [el("option", { value: "" }, "one per layer, below")] : [];
        select.replaceChildren(...mixed, identity, el("optgroup", { label: "On this page" }, ...chosen), el("optgroup", { label: "Catalogue" }, ...others));
        select.value = choice;
      });
    });
    const used = this.listUsed();
    find("sine-hint").hidden = ![0, 1].some((side) => this.listActivations(side).some((one) => one.name === "sine" && one.values.get("omega") > 10));
    if (used.some((one, i) => one !== this.used?.[i]) || used.length !== this.used.length) this.reset();
  }

  /** Return the specs of the functions that the layers use. */
  listUsed() {
    const { train, functions } = this.state;
    return train.sides.flatMap((side) => side.slice(0, train.layers)).map((choice) => choice.startsWith("#") ? (functions[Number(choice.slice(1))] ?? functions[0]).spec : choice);
  }

  listActivations(side) {
    const { train } = this.state;
    return Array.from({ length: train.layers }, (_, l) => this.state.choose(train.sides[side][l]));
  }

  /** Make new networks from the seed. */
  reset() {
    const { train } = this.state, wasRunning = this.isRunning;
    this.isRunning = false;
    find("start").textContent = "Start";
    find("train-status").textContent = `${wasRunning ? "Stopped: the settings changed. " : ""}New networks, 0 steps.`;
    this.used = this.listUsed();
    this.data = makeData(train.data, train.seed);
    this.fresh = makeData(train.data, train.seed + FRESH);
    const sizes = [2, ...Array(train.layers).fill(WIDTH), 1];
    this.networks = [0, 1].map((side) => new Network(sizes, this.listActivations(side), train.seed));
    if (train.matched) this.networks.forEach((network) => network.match(this.data.x));
    this.training = new Training(this.data, this.networks, { seed: train.seed, rate: train.rate, momentum: MOMENTUM, batch: BATCH });
    this.show();
  }

  toggle() {
    if (this.isRunning) {
      this.pause();
      this.report();
      return;
    }
    this.isRunning = true;
    this.nextPicture = 0;
    let cost = 0;
    find("start").textContent = "Pause";
    const frame = () => {
      if (!this.isRunning) return;
      const end = performance.now() + Math.min(BUDGET[1], Math.max(BUDGET[0], cost));
      do this.training.advance(); while (performance.now() < end && !this.isAtStop());
      if (end > this.nextPicture) {
        cost = -performance.now();
        this.show();
        cost += performance.now();
        this.nextPicture = end + (matchMedia("(prefers-reduced-motion: reduce)").matches ? CALM : 0);
      }
      if (this.isAtStop() || this.networks.every((network) => network.layers.some(({ weight }) => !Number.isFinite(weight[0])))) {
        this.pause();
        this.report();
        return;
      }
      requestAnimationFrame(frame);
    };
    find("train-status").textContent = "Training.";
    requestAnimationFrame(frame);
  }

  /** Whether the number of steps is one after which training stops. */
  isAtStop() { return this.state.train.stop > 0 && this.training.steps % this.state.train.stop === 0; }

  pause() {
    if (this.isRunning) this.show();
    this.isRunning = false;
    find("start").textContent = "Start";
  }

  /** Announce the result once; a live region that changes in every frame could not be followed. */
  report() {
    const { isRegression } = this.data, write = (score) => isRegression ? show(score, 3) : percent(score), { steps } = this.training;
    const results = this.networks.map((network, i) => {
      const slopes = network.listSlopes(), dead = slopes.reduce((sum, one) => sum + one.dead, 0) / slopes.length;
      const fresh = network.score(this.fresh), { loss, score } = network.score(this.data);
      const name = `Network ${"AB"[i]}`;
      return Number.isFinite(loss) ? `${name}: loss ${show(loss, 3)}, ${isRegression ? "R²" : "accuracy"} ${write(score)} on training samples and ${write(fresh.score)} on new samples, ${percent(dead)} of the hidden units dead` : `${name} diverged: its loss is not finite; try a smaller learning rate`;
    });
    find("train-status").textContent = `After ${steps} ${steps === 1 ? "step" : "steps"}. ${results.join(". ")}.`.replaceAll(" %", "\u00a0%");
  }

  show() {
    const { steps, losses } = this.training, { isRegression } = this.data;
    const fresh = this.networks.map((network) => network.score(this.fresh)), results = this.networks.map((network) => network.score(this.data)), slopes = this.networks.map((network) => network.listSlopes());
    find("steps").textContent = `${steps} ${steps === 1 ? "step" : "steps"}`;
    this.networks.forEach((network, i) => drawSurface(this.surfaces[i], network, this.data));
    const write = ({ score }) => isRegression ? show(score, 3) : percent(score), measure = isRegression ? "R²" : "accuracy";
    const rows = results.map(({ loss, score }, i) => [`Network ${"AB"[i]}`, String(steps), Number.isFinite(loss) ? show(loss, 3) : "diverged", write({ score }), write(fresh[i]),
      slopes[i].map(({ dead }) => percent(dead)).join(", "), slopes[i].map(({ saturated }) => percent(saturated)).join(", ")]);
    fillTable(find("train-table"), ["network", "steps", "loss", `${measure}, training samples`, `${measure}, new samples`, "dead units by layer", "saturated by layer"], rows);
    const lines = losses.map((values, series) => ({ series: NETWORK_SERIES[series], name: "AB"[series], ...smooth(values), dash: series }));
    const finite = lines.flatMap(({ y }) => y.filter((one) => Number.isFinite(one) && one > 0));
    const low = finite.length ? Math.min(...finite) : 0.1, high = finite.length ? Math.max(...finite) : 1;
    this.loss.draw({ xRange: [0, Math.max(10, steps)], yRange: [low / 1.3, high * 1.3], lines, alt: `network A as a solid line, network B as a dashed line; ${steps} steps` });
    const names = this.networks.map(({ activations }) => joinNames(activations.map((one) => one.label)));
    this.surfaces.forEach((canvas, i) => { canvas.previousElementSibling.textContent = `${"AB"[i]}: ${names[i]}`; });
    this.surfaces.forEach((canvas, i) => canvas.setAttribute("aria-label",
      `Network ${"AB"[i]} (${names[i]}) after ${steps} steps: ${isRegression ? "predicted value" : "predicted class"} for both features, with the samples`));
  }
}

/** Return names with the number of neighbours that are equal, such as "relu × 2, tanh". */
function joinNames(names) {
  const parts = [];
  for (const name of names) name === parts.at(-1)?.name ? parts.at(-1).count++ : parts.push({ name, count: 1 });
  return parts.map(({ name, count }) => count > 1 ? `${name} × ${count}` : name).join(", ");
}

/** Return means of neighbouring losses at no more than LONGEST places. */
function smooth(values) {
  const size = Math.max(1, Math.ceil(values.length / LONGEST)), x = [], y = [];
  for (let i = 0; i < values.length; i += size) {
    const part = values.slice(i, i + size);
    x.push(i + part.length / 2);
    y.push(part.reduce((sum, one) => sum + one, 0) / part.length);
  }
  return { x, y };
}

const CELLS = Float64Array.from({ length: 2 * GRID * GRID }, (_, i) => {
  const cell = i >> 1, place = i % 2 ? GRID - 1 - Math.floor(cell / GRID) : cell % GRID;
  return -REACH + 2 * REACH * (place + 0.5) / GRID;
});

/** Draw the outputs of a network for the whole plane, and the samples. */
function drawSurface(canvas, network, { x, y, isRegression, n }) {
  const size = canvas.width, context = canvas.getContext("2d");
  const [low, high, back, ink] = readColours(canvas), outputs = network.forward(CELLS), image = context.createImageData(GRID, GRID);
  for (let i = 0; i < GRID * GRID; i++) {
    const value = isRegression ? outputs[i] : 2 / (1 + Math.exp(-outputs[i])) - 1, strength = 0.75 * Math.min(1, Math.abs(value)), colour = value < 0 ? low : high;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Number.isFinite(value) ? back[c] + (colour[c] - back[c]) * strength : back[c];
    image.data[4 * i + 3] = 255;
  }
  const small = drawSurface.small ??= new OffscreenCanvas(GRID, GRID);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, size, size);
  context.strokeStyle = `rgb(${back})`;
  for (let i = 0; i < n; i++) {
    const value = isRegression ? y[i] : 2 * y[i] - 1, colour = value < 0 ? low : high, strength = isRegression ? 0.3 + 0.7 * Math.min(1, Math.abs(value)) : 1;
    context.fillStyle = `rgb(${colour.map((one, c) => Math.round(ink[c] * (1 - strength) + one * strength))})`;
    context.beginPath();
    context.arc((x[2 * i] + REACH) / (2 * REACH) * size, (REACH - x[2 * i + 1]) / (2 * REACH) * size, size / 95, 0, 7);
    context.fill();
    context.stroke();
  }
}

