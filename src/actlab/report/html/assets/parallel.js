"use strict";
// Parallel coordinates in SVG: a line for each run, axes to select runs and to reorder, linked to the table of runs.
{
  const place = document.getElementById("parallel"), { columns, rows, axes } = actlab.runs;
  const TOP = 44, HEIGHT = 280, BOTTOM = TOP + HEIGHT, MISSING = BOTTOM + 22, WIDTH = 6.6;
  const add = (name, attributes, parent) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    return parent.appendChild(element);
  };
  const short = (text) => text.length > 27 ? `${text.slice(0, 13)}…${text.slice(-13)}` : text;
  const format = (column, value) => columns[column].number ? String(Number.isInteger(value) ? value : Number(value.toPrecision(4))).replaceAll("-", "−")
    : short(actlab.labels[value] ?? String(value));

  /** Return the scale of a column: the height of a value, its ticks, and the step of the keyboard. */
  function scale(column) {
    const values = rows.map((row) => row[column]).filter((value) => value !== null && value !== "");
    if (columns[column].number) {
      const low = Math.min(...values), high = Math.max(...values), few = [...new Set(values)];
      const at = (value) => high > low ? BOTTOM - ((value - low) / (high - low)) * HEIGHT : BOTTOM - HEIGHT / 2;
      const whole = few.every(Number.isInteger), even = [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low));
      const ticks = few.length <= 6 ? few : [...new Set(whole ? even.map(Math.round) : even)];
      return { at, ticks, low, high, step: HEIGHT / 20 };
    }
    const activations = Object.keys(actlab.labels).filter((name) => columns[column].name === actlab.subject && values.includes(name));
    const names = [...activations, ...[...new Set(values)].filter((name) => !activations.includes(name)).sort()];
    const apart = HEIGHT / Math.max(names.length, 1), places = new Map(names.map((name, i) => [name, i]));
    const at = (value) => TOP + apart * (places.get(value) + 0.5);
    return { at, ticks: names, names, places, step: Math.max(apart, 7) };
  }

  const scales = new Map(columns.map((_, column) => [column, scale(column)]));
  const LEFT = Math.max(60, ...axes.flatMap((column) => scales.get(column).ticks.map((tick) => 20 + WIDTH * format(column, tick).length)));
  const height = (run, column) => {
    const value = rows[run][column];
    return value === null || value === "" ? MISSING : scales.get(column).at(value);
  };
  const brushes = new Map();  // by column: top and bottom of the selection
  let order = [...axes], gap = 0, svg, paths = [], groups = new Map(), waiting = false;

  const isSelected = (run) => [...brushes].every(([column, [top, bottom]]) => {
    const y = height(run, column);
    return y >= top - 0.5 && y <= bottom + 0.5;
  });

  const x = (column) => LEFT + gap * order.indexOf(column);
  function layOut() {
    groups.forEach((group, column) => group.setAttribute("transform", `translate(${x(column)} 0)`));
    paths.forEach((path, run) => path.setAttribute("d", "M" + order.map((column) => `${x(column)} ${height(run, column).toFixed(1)}`).join("L")));
  }

  /** Return the selected values of a column as text. */
  function describe(column) {
    const brush = brushes.get(column);
    if (!brush) return "all";
    const { ticks } = scales.get(column), values = rows.map((row) => row[column]);
    const selected = rows.flatMap((_, run) => {
      const y = height(run, column);
      return y >= brush[0] - 0.5 && y <= brush[1] + 0.5 && y !== MISSING ? [values[run]] : [];
    });
    if (!selected.length) return "none";
    if (columns[column].number) return `${format(column, Math.min(...selected))} to ${format(column, Math.max(...selected))}`;
    return ticks.filter((name) => selected.includes(name)).map((name) => format(column, name)).join(", ");
  }

  /** Show the selection of a column, and apply all selections in the next frame. */
  function update(column) {
    const group = groups.get(column), bar = group.querySelector(".brush"), brush = brushes.get(column);
    bar.setAttribute("y", brush ? brush[0] : 0);
    bar.setAttribute("height", brush ? Math.max(brush[1] - brush[0], 2) : 0);
    group.setAttribute("aria-valuetext", describe(column));
    group.setAttribute("aria-valuenow", brush ? Math.round((100 * (BOTTOM - (brush[0] + brush[1]) / 2)) / HEIGHT) : 50);
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; actlab.select(isSelected); });
  }

  const clamp = (y) => Math.max(TOP, Math.min(MISSING + 6, y));
  function set(column, top, bottom) {
    brushes.set(column, [clamp(Math.min(top, bottom)), clamp(Math.max(top, bottom))]);
    update(column);
  }
  function clear(column) {
    brushes.delete(column);
    update(column);
  }
  function move(column, to) {
    order = order.filter((one) => one !== column);
    order.splice(Math.max(0, to), 0, column);
    layOut();
  }

  function byKey(event, column) {
    const { step } = scales.get(column), up = event.key === "ArrowUp", at = order.indexOf(column);
    if (event.key === "Escape") clear(column);
    else if (event.key === "ArrowLeft" || event.key === "ArrowRight") move(column, Math.min(order.length - 1, at + (event.key === "ArrowLeft" ? -1 : 1)));
    else if (up || event.key === "ArrowDown") {
      const wide = Math.max(HEIGHT / 4, step), brush = brushes.get(column), by = up ? -step : step;
      if (!brush) set(column, up ? TOP : BOTTOM - wide, up ? TOP + wide : BOTTOM);
      else if (event.shiftKey) set(column, Math.min(brush[0] + by, brush[1] - step), brush[1]);
      else {
        const room = Math.max(TOP - brush[0], Math.min(MISSING + 6 - brush[1], by));
        set(column, brush[0] + room, brush[1] + room);
      }
    } else return;
    event.preventDefault();
  }

  /** Call what begin() returns with each place of the pointer while it is pressed. */
  function dragged(target, begin) {
    target.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      const at = (one) => {
        const box = svg.getBoundingClientRect();
        return [one.clientX - box.left, one.clientY - box.top];
      };
      const go = begin(at(event));
      const follow = (one) => go(at(one), false);
      const end = (one) => {
        go(at(one), true);
        target.removeEventListener("pointermove", follow);
      };
      target.setPointerCapture(event.pointerId);
      target.addEventListener("pointermove", follow);
      target.addEventListener("pointerup", end, { once: true });
      event.preventDefault();
      groups.forEach((group) => group.contains(target) && group.focus());
    });
  }

  function axis(column) {
    const group = add("g", { tabindex: 0, role: "slider", "aria-orientation": "vertical", "aria-valuemin": 0, "aria-valuemax": 100,
      "aria-valuenow": 50, "aria-valuetext": "all", "aria-label": columns[column].name, "aria-describedby": "parallel-help" }, svg);
    add("path", { class: "axis", d: `M0 ${TOP}V${BOTTOM}` }, group);
    const { ticks, at } = scales.get(column), every = Math.ceil(ticks.length / 18);
    ticks.filter((_, i) => i % every === 0).forEach((tick) => {
      add("text", { class: "tick", x: -7, y: at(tick) + 4, "text-anchor": "end", direction: "ltr" }, group).textContent = format(column, tick);
    });
    if (rows.some((_, run) => height(run, column) === MISSING)) {
      add("text", { class: "tick", x: -7, y: MISSING + 4, "text-anchor": "end" }, group).textContent = "none";
    }
    add("rect", { class: "brush", x: -9, width: 18, y: 0, height: 0, rx: 3 }, group);
    const hit = add("rect", { class: "bar-hit", x: -16, width: 32, y: TOP - 8, height: MISSING - TOP + 18 }, group);
    const head = add("text", { class: "head", x: 0, y: TOP - 18, "text-anchor": "middle" }, group);
    head.textContent = short(columns[column].name);
    group.addEventListener("keydown", (event) => byKey(event, column));
    dragged(hit, ([, from]) => {
      const brush = brushes.get(column), held = brush && from >= brush[0] && from <= brush[1];
      return ([, to], ended) => {
        if (ended && Math.abs(to - from) < 3) clear(column);
        else if (held) set(column, brush[0] + to - from, brush[1] + to - from);
        else set(column, from, to);
      };
    });
    dragged(head, () => ([to], ended) => ended || move(column, Math.max(0, Math.min(order.length - 1, Math.round((to - LEFT) / gap)))));
    groups.set(column, group);
  }

  function colours(column) {
    const { names, places, low, high } = scales.get(column), legend = document.getElementById("scale");
    const mixed = (part) => `color-mix(in oklab, var(--high) ${Math.round(100 * part)}%, var(--low))`;
    paths.forEach((path, run) => {
      const value = rows[run][column];
      if (value === null || value === "") path.style.color = "var(--soft)";
      else path.style.color = names ? `var(--c${places.get(value) % 7})` : mixed(high > low ? (value - low) / (high - low) : 1);
    });
    const dot = (paint, text) => {
      const one = document.createElement("span"), mark = document.createElement("b");
      mark.textContent = "■ ";
      mark.style.color = paint;
      one.append(mark, `${text}  `);
      return one;
    };
    const some = names ? names.slice(0, 8).map((name, i) => dot(`var(--c${i % 7})`, format(column, name)))
      : [dot(mixed(0), format(column, low)), dot(mixed(1), format(column, high))];
    legend.replaceChildren(...some, names?.length > 8 ? "…" : "");
  }

  function begin() {
    gap = Math.max(100, (place.clientWidth - LEFT - 50) / Math.max(axes.length - 1, 1));
    const wide = LEFT + gap * (axes.length - 1) + 45;
    svg = add("svg", { width: wide, height: MISSING + 16, viewBox: `0 0 ${wide} ${MISSING + 16}`, role: "group",
      "aria-label": `Parallel coordinates of ${rows.length} runs; the table below has the same` }, place);
    const below = add("g", {}, svg);
    paths = rows.map(() => add("path", { class: "run" }, below));
    axes.forEach(axis);
    layOut();
    const select = document.getElementById("colour");
    axes.forEach((column) => select.add(new Option(columns[column].name, column)));
    select.addEventListener("change", () => colours(Number(select.value)));
    colours(axes[0]);
    document.getElementById("clear").addEventListener("click", () => {
      [...brushes.keys()].forEach(clear);
      document.getElementById("filter").value = "";
      actlab.select(isSelected);
    });
    actlab.onSelected((selected) => paths.forEach((path, run) => path.classList.toggle("off", !selected.has(run))));
    document.getElementById("runs-table").addEventListener("pointerover", (event) => {
      const row = event.target.closest("tr[data-run]");
      place.querySelectorAll(".near").forEach((path) => path.classList.remove("near"));
      if (row) paths[row.dataset.run].classList.add("near");
    });
  }

  if (place && axes.length) begin();
  else if (place) document.querySelectorAll("#parallel, .of-parallel").forEach((part) => part.remove());
}
