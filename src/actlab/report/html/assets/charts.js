"use strict";
// Panels of lines: the legend shows and hides series, the pointer or the arrow keys read values.
const actlab = JSON.parse(document.getElementById("data").textContent);
{
  const WIDTH = 380, LEFT = 46, RIGHT = 10;  // of svg.py, in units of the drawing
  const number = (value) => {
    const rounded = Number(value.toPrecision(4));
    return (rounded && Math.abs(rounded) < 1e-3 ? rounded.toExponential() : String(rounded)).replaceAll("-", "−");
  };
  const add = (parent, tag, className, text = "") => {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return parent.appendChild(element);
  };

  /** Make each name in a legend a button that shows or hides its lines. */
  function legend(figure) {
    figure.querySelectorAll(".legend li").forEach((item) => {
      const button = document.createElement("button");
      const lines = figure.querySelectorAll(`.series[data-series="${item.dataset.series}"]`);
      const isShown = () => [...lines].some((line) => !line.classList.contains("off"));
      const update = () => button.setAttribute("aria-pressed", String(isShown()));
      button.type = "button";
      button.append(...item.childNodes);
      item.append(button);
      button.addEventListener("click", () => {
        const hide = isShown();
        lines.forEach((line) => line.classList.toggle("off", hide));
        update();
      });
      update();
    });
  }

  /** Show the values of a panel's visible lines nearest to a place on its horizontal axis. */
  function readout(panel, chart) {
    const svg = panel.querySelector("svg"), scale = chart.log ? Math.log : (x) => x, [low, high] = chart.range.map(scale);
    const along = (x) => LEFT + ((scale(x) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
    const box = add(panel, "output", "readout"), rule = add(panel, "div", "rule");
    const places = [...new Set(chart.lines.flatMap((line) => line.x ?? []))].sort((a, b) => a - b);
    let place = null;
    box.hidden = rule.hidden = true;
    panel.tabIndex = 0;
    panel.setAttribute("role", "group");
    panel.setAttribute("aria-label", panel.querySelector("h3").textContent);

    function show(x) {
      place = x;
      const visible = chart.lines.filter((line) => !panel.querySelector(`.series[data-series="${line.series}"]`).classList.contains("off"));
      const bounds = svg.getBoundingClientRect(), width = bounds.width, part = along(x) / WIDTH;
      box.replaceChildren();
      add(box, "b", "", `${chart.x} ${number(x)}`);
      visible.forEach((line) => {
        const xs = line.x ?? chart.lines[0].x;
        const i = xs.reduce((best, other, j) => Math.abs(other - x) < Math.abs(xs[best] - x) ? j : best, 0);
        if (line.y[i] === null) return;
        const range = line.low.length && line.low[i] < line.high[i] ? ` (${number(line.low[i])} to ${number(line.high[i])})` : "";
        const row = add(box, "span", "");
        add(row, "i", `c${line.series % 7}`, "■ ");
        add(row, "bdi", "", actlab.labels[line.name] ?? line.name);
        row.append(`: ${number(line.y[i])}${range}`);
      });
      box.hidden = rule.hidden = false;
      rule.style.left = `${part * width}px`;
      rule.style.top = `${bounds.top - panel.getBoundingClientRect().top}px`;
      rule.style.height = `${bounds.height * 0.86}px`;
      box.style.left = `${Math.max(0, part > 0.5 ? part * width - box.offsetWidth - 10 : Math.min(part * width + 10, width - box.offsetWidth))}px`;
    }
    const hide = () => { box.hidden = rule.hidden = true; };
    svg.addEventListener("pointermove", (event) => {
      const bounds = svg.getBoundingClientRect(), unit = ((event.clientX - bounds.left) / bounds.width) * WIDTH;
      show(places.reduce((best, other) => Math.abs(along(other) - unit) < Math.abs(along(best) - unit) ? other : best));
    });
    svg.addEventListener("pointerleave", hide);
    panel.addEventListener("blur", hide);
    panel.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] * Math.ceil(places.length / 60);
      if (event.key === "Escape") hide();
      if (!step) return;
      const at = place === null ? (step > 0 ? 0 : places.length - 1) : places.indexOf(place) + step;
      show(places[Math.max(0, Math.min(places.length - 1, at))]);
      event.preventDefault();
    });
  }

  document.querySelectorAll(".interactive").forEach((part) => { part.hidden = false; });
  Object.entries(actlab.figures).forEach(([id, charts]) => {
    const figure = document.querySelector(`figure[data-chart="${id}"]`);
    legend(figure);
    figure.querySelectorAll(".panel").forEach((panel, i) => readout(panel, charts[i]));
  });
}
