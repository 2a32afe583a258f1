// Elements, numbers as text, and charts in SVG with the classes of the report's stylesheet.

/** Create an element with attributes, event listeners (onclick) and children; text is never read as HTML. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (typeof value === "boolean" || name === "value" || name === "textContent") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Return a number as text with a minus sign and at most `digits` significant digits. */
export function show(value, digits = 4) {
  if (Number.isNaN(value)) return "none";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const rounded = Number(value.toPrecision(digits)), size = Math.abs(rounded);
  return (rounded && (size < 1e-3 || size >= 1e6) ? rounded.toExponential() : String(rounded)).replaceAll("-", "−").replace("e+", "e");
}

/** Return a share in percent with at most three significant digits and three decimals. */
export const percent = (share) => share > 0 && share < 5e-6 ? "< 0.001 %" : `${show(Number((100 * Number(share.toPrecision(3))).toFixed(3)))} %`;

/** Return the element with an id. */
export const find = (id) => document.getElementById(id);

/** Return an option for the identity and one for each function of the catalogue, with the values of its parameters. */
export function listOptions(entries) {
  const names = [...entries].map(([name, { parameters }]) => [name, nameWithValues(name, parameters.map((one) => [one.name, one.value]))]);
  return [[IDENTITY, "identity (no activation)"], ...names].map(([value, text]) => el("option", { value }, text));
}

export const IDENTITY = "x";  // its formula
export const nameWithValues = (name, values) => values.length ? `${name} (${values.map(([key, value]) => `${key} = ${show(value)}`).join(", ")})` : name;

const LONG = 30;  // characters of a cell that has more than one line

/** Fill a table: a row of headings, then rows whose first cell is a heading. */
export function fillTable(table, headings, rows) {
  const head = el("tr", {}, ...headings.map((text, i) => el("th", { scope: "col", class: i ? "n" : "" }, text)));
  const body = rows.map(([first, ...cells]) => el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((text) => el("td", { class: text.length > LONG ? "n long" : "n" }, text))));
  table.tHead ? table.tHead.replaceChildren(head) : table.append(el("thead", {}, head));
  table.tBodies[0] ? table.tBodies[0].replaceChildren(...body) : table.append(el("tbody", {}, ...body));
}

/** Return a label with a slider and a number field that change together; a slider with `log` moves by factors. */
export function makeSlider({ id, label, low, high, step = (high - low) / 100, value, onchange, digits = 4, log = false }) {
  const to = log ? Math.log10 : (number) => number, from = log ? (place) => Number((10 ** place).toPrecision(3)) : (place) => place;
  const range = el("input", { type: "range", id, min: to(low), max: to(high), step: log ? 0.01 : step });
  const field = el("input", { type: "number", id: `${id}-number`, min: low, max: high, step: "any", "aria-label": `${label}, as a number` });
  const setField = (number) => { field.value = String(Number(number.toPrecision(digits))); };
  const set = (number) => {
    range.value = to(number);
    range.setAttribute("aria-valuetext", show(number));
    setField(number);
  };
  set(value);
  range.addEventListener("input", () => {
    const number = from(Number(range.value));
    range.setAttribute("aria-valuetext", show(number));
    setField(number);
    onchange(number);
  });
  field.addEventListener("change", () => {
    const number = Math.min(high, Math.max(low, Number(field.value)));
    if (field.value === "" || !Number.isFinite(number)) { setField(from(Number(range.value))); return; }
    set(number);
    onchange(number);
  });
  return { element: el("div", { class: "slider" }, el("label", { for: id }, label), range, field), set };
}

/** Return the colours for low and high values, of the page and of its text, as lists of red, green and blue. */
export function readColours(element) {
  const style = getComputedStyle(element);
  return ["--c0", "--c1", "--back", "--ink"].map((name) => {
    const digits = style.getPropertyValue(name).trim().slice(1), long = digits.length === 3 ? [...digits].map((one) => one + one).join("") : digits;
    return [0, 2, 4].map((i) => parseInt(long.slice(i, i + 2), 16));
  });
}

const SVG = "http://www.w3.org/2000/svg", LEFT = 50, RIGHT = 10, TOP = 8, BOTTOM = 34;

function draw(tag, attributes, text = "") {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** Return the line in front of a name. */
export function drawSwatch(series, dash = Math.floor(series / 7) % 4) {
  const svg = draw("svg", { class: "swatch", viewBox: "0 0 28 14", width: 28, height: 14, "aria-hidden": "true" });
  svg.append(draw("path", { class: `line c${series % 7} d${dash}`, d: "M1 7H27" }));
  return svg;
}

/** Return round numbers between two numbers. */
function chooseTicks(low, high, count = 5) {
  const raw = (high - low) / count;
  if (!(raw > 0 && Number.isFinite(raw))) return [low];
  const power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((one) => one >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function chooseLogTicks(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9), every = Math.max(1, Math.ceil((last - first + 1) / 6));
  const powers = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i).filter((power) => power % every === 0);
  return powers.length > 1 ? powers.map((power) => 10 ** power) : [low, Math.sqrt(low * high), high].map((one) => Number(one.toPrecision(2)));
}

/** A chart of lines. */
export class Chart {
  /** @param onpoint called with x and y, in units of the axes, when the pointer moves (or drags, with `drags`) */
  constructor(parent, { title, xLabel, height = 240, log = false, onpoint, drags = false }) {
    this.svg = draw("svg", { role: "img", "aria-label": title });
    this.heading = el("h3", {}, title);
    Object.assign(this, { title, xLabel, height, log, clip: `clip-${Chart.count = (Chart.count ?? 0) + 1}` });
    parent.append(el("div", { class: "panel" }, this.heading, this.svg));
    new ResizeObserver(() => { if (this.last && this.measure() !== this.width) this.draw(this.last); }).observe(this.svg);
    if (!onpoint) return;
    this.svg.classList.add(drags ? "drags" : "reads");
    const report = (event) => {
      if (!this.xRange || (drags && event.buttons !== 1)) return;
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width * this.width - LEFT) / (this.width - LEFT - RIGHT);
      const y = (height - BOTTOM - (event.clientY - box.top) / box.height * height) / (height - BOTTOM - TOP);
      const inside = (share, [low, high]) => low + Math.min(1, Math.max(0, share)) * (high - low);
      onpoint(inside(x, this.xRange), inside(y, this.yRange));
    };
    this.svg.addEventListener("pointermove", report);
    this.svg.addEventListener("pointerdown", (event) => {
      if (drags) this.svg.setPointerCapture(event.pointerId);
      report(event);
    });
  }

  /** Return the width of the chart in pixels, so that its text has the size of the page's. */
  measure() { return Math.max(240, Math.round(this.svg.clientWidth) || 380); }

  /**
   * Draw lines {series, name, x, y, dash, faint, width}, marks {x, y, series, kind}, areas {x, y}, rules (values of x) and an image below them.
   * Values that are not finite make gaps. A name is drawn where it fits. `alt` describes the chart in words.
   */
  draw(content) {
    const { xRange, yRange, lines = [], marks = [], areas = [], rules = [], image, alt } = content, { log, height } = this;
    this.width = this.measure();
    this.last = content;
    const bottom = height - BOTTOM, right = this.width - RIGHT, scaled = log ? yRange.map(Math.log10) : yRange;
    Object.assign(this, { xRange, yRange });
    const atX = (x) => LEFT + (x - xRange[0]) / (xRange[1] - xRange[0]) * (right - LEFT);
    // Far values are cut to a few heights of the chart, which its clip path hides.
    const atY = (y) => Math.max(-3 * bottom, Math.min(4 * bottom, bottom - ((log ? Math.log10(y) : y) - scaled[0]) / (scaled[1] - scaled[0]) * (bottom - TOP)));
    const parts = [];
    for (const y of log ? chooseLogTicks(...yRange) : chooseTicks(...yRange)) {
      const zero = y === 0 && !log ? "zero" : "grid";
      parts.push(draw("path", { class: zero, d: `M${LEFT} ${atY(y).toFixed(1)}H${right}` }), draw("text", { x: LEFT - 5, y: atY(y) + 4, "text-anchor": "end" }, show(y, 3)));
    }
    for (const x of chooseTicks(...xRange)) parts.push(draw("text", { x: Math.min(atX(x), this.width - 4 * show(x, 6).length), y: bottom + 15, "text-anchor": "middle" }, show(x, 6)));
    parts.push(draw("text", { x: (LEFT + right) / 2, y: height - 3, "text-anchor": "middle" }, this.xLabel), draw("path", { class: "axis", d: `M${LEFT} ${bottom}H${right}` }));
    const clip = draw("clipPath", { id: this.clip }), inner = draw("g", { "clip-path": `url(#${this.clip})` });
    clip.append(draw("path", { d: `M${LEFT - 5} ${TOP - 5}H${right + 5}V${bottom + 5}H${LEFT - 5}Z` }));
    if (image) inner.append(draw("image", { href: image, x: LEFT, y: TOP, width: right - LEFT, height: bottom - TOP, preserveAspectRatio: "none" }));
    for (const { x, y } of areas) {
      const points = Array.from(x, (one, i) => `${atX(one).toFixed(1)} ${(bottom - y[i] * (bottom - TOP)).toFixed(1)}`);
      inner.append(draw("path", { class: "region", d: `M${atX(x[0]).toFixed(1)} ${bottom}L${points.join("L")}V${bottom}Z` }));
    }
    for (const x of rules) if (x >= xRange[0] && x <= xRange[1]) inner.append(draw("path", { class: "zero", d: `M${atX(x).toFixed(1)} ${TOP}V${bottom}` }));
    const curves = [], dots = [];
    for (const { series, name = "", x, y, dash = Math.floor(series / 7) % 4, faint = false, width = 2 } of lines) {
      let path = "", pen = "M";
      curves.push({ series, name, points: Array.from(x, (one, i) => [atX(one), !log || y[i] > 0 ? atY(y[i]) : NaN]) });
      for (let i = 0; i < x.length; i++) {
        const isDrawn = Number.isFinite(y[i]) && (!log || y[i] > 0);
        if (isDrawn) path += `${pen}${atX(x[i]).toFixed(1)} ${atY(y[i]).toFixed(1)}`;
        pen = isDrawn ? "L" : "M";
      }
      inner.append(draw("path", { class: `line c${series % 7} d${dash}${faint ? " faint" : ""}`, d: path, style: `stroke-width: ${width}` }));
    }
    for (const { x, y, series, kind } of marks) {
      if (!Number.isFinite(y) || x < xRange[0] || x > xRange[1]) continue;
      dots.push([atX(x), atY(y)]);
      inner.append(draw("circle", { class: `${kind === "open" ? "open" : "mark"} c${series % 7}`, cx: atX(x).toFixed(1), cy: atY(y).toFixed(1), r: kind === "large" ? 6 : 4 }));
    }
    for (const { x, y, series, name } of placeNames(curves, dots, [LEFT, right, TOP, bottom])) {
      const colour = draw("g", { class: `c${series % 7}` });
      colour.append(draw("text", { class: "name", x, y }, name));
      inner.append(colour);
    }
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    this.svg.setAttribute("aria-label", `${this.title}: ${alt}`);
    this.svg.replaceChildren(clip, ...parts, inner);
  }
}

const LETTER = 7, LINE = 13, NEAR = 3, APART = 7;  // width and height of names, and distances from their own and from other lines, in pixels

/** Return names with a place beside their lines, as far to the right as possible, without those that would touch a line, a dot or a name. */
function placeNames(curves, dots, [left, right, top, bottom]) {
  const placed = [];
  const isFree = (x, y, width, series) => y >= top && y + LINE <= bottom
    && !placed.some((one) => x < one.x + one.width + APART && one.x < x + width + APART && y < one.y + LINE && one.y < y + LINE)
    && !dots.some(([dotX, dotY]) => dotX > x - APART && dotX < x + width + APART && dotY > y - APART && dotY < y + LINE + APART)
    && !curves.some((curve) => {
      const [low, high] = curve.series === series ? [NaN, NaN] : findSpan(curve, x - NEAR, x + width + NEAR);
      return low < y + LINE + APART && high > y - APART;
    });
  for (const { series, name } of curves.filter((curve) => curve.name)) {
    const width = LETTER * name.length, own = curves.filter((curve) => curve.series === series);
    if (width > (right - left) / 2) continue;
    for (let x = right - width - NEAR, step = (right - left) / 16; x > left + NEAR; x -= step) {
      const spans = own.map((curve) => findSpan(curve, x, x + width)), low = Math.min(...spans.map(([one]) => one)), high = Math.max(...spans.map(([, one]) => one));
      const y = high - low > 2 * LINE ? NaN : [low - NEAR - LINE, high + NEAR].find((one) => isFree(x, one, width, series));
      if (y >= top) { placed.push({ x, y, width, series, name }); break; }
    }
  }
  return placed.map(({ x, y, ...rest }) => ({ ...rest, x: x.toFixed(1), y: (y + LINE - 3).toFixed(1) }));
}

/** Return the lowest and the highest y of a curve between two x. */
function findSpan({ points }, from, to) {
  let low = Infinity, high = -Infinity;
  for (let i = 1; i < points.length; i++) {
    const [x, y] = points[i - 1], [nextX, nextY] = points[i];
    if (nextX < from || x > to || !Number.isFinite(y + nextY)) continue;
    const at = (place) => nextX - x < 1e-6 ? [y, nextY] : [y + (nextY - y) * (place - x) / (nextX - x)];
    for (const one of [...at(Math.max(x, from)), ...at(Math.min(nextX, to))]) { low = Math.min(low, one); high = Math.max(high, one); }
  }
  return [low, high];
}
