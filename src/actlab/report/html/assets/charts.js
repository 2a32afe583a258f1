"use strict";
// The charts that Plotly draws in place of the static ones. Names go in escaped: Plotly reads a part of HTML.
const actlab = JSON.parse(document.getElementById("data").textContent);
{
  const DASHES = ["solid", "dash", "dot", "dashdot"], COLOURS = 7, FEW = 5;  // points that are seen one by one
  const hidden = {};  // series that are not shown, by figure
  const sign = { better: "▲", worse: "▼", equivalent: "=", undecided: "?", none: "–", leader: "◆" };
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (series) => css(`--c${series % COLOURS}`);
  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const label = (name) => escaped(actlab.labels[name] ?? name);
  const number = (value) => {
    const rounded = Number(value.toPrecision(4));
    return (rounded && Math.abs(rounded) < 1e-3 ? rounded.toExponential() : String(rounded)).replaceAll("-", "−");
  };

  function base(more) {
    const axis = { gridcolor: css("--line"), linecolor: css("--soft"), zeroline: false, automargin: false };
    const font = { color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12 };
    const { xaxis, yaxis, ...rest } = more;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font, showlegend: false, hovermode: "closest",
      hoverlabel: { bgcolor: css("--card"), bordercolor: css("--soft"), font: { color: css("--ink") }, align: "left" },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",  // a finger scrolls the page
      margin: { l: 52, r: 10, t: 8, b: 40 },
      xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
    };
  }

  function lineTraces(line, many) {
    const found = [], pen = colour(line.series);
    if (line.low) {
      const at = line.x.map((_, i) => i).filter((i) => line.low[i] !== null && line.high[i] !== null);
      const back = [...at].reverse();
      found.push({
        x: [...at, ...back].map((i) => line.x[i]),
        y: [...at.map((i) => line.high[i]), ...back.map((i) => line.low[i])],
        mode: "lines", fill: "toself", fillcolor: pen + (many ? "10" : "29"), line: { width: 0 }, hoverinfo: "skip",
      });
    }
    const said = (y, i) => y === null ? "" :
      `${label(line.name)}<br>${number(line.x[i])}: ${number(y)}` +
      (line.low ? `<br>${number(line.low[i])} to ${number(line.high[i])}` : "");
    const dash = DASHES[Math.floor(line.series / COLOURS) % 4];
    const mode = line.x.length > FEW ? "lines" : line.x.length > 1 ? "lines+markers" : "markers";
    found.push({ x: line.x, y: line.y, mode, line: { color: pen, width: 2, dash }, marker: { color: pen, size: line.x.length > 1 ? 6 : 8 },
      text: line.y.map(said), hoverinfo: "text" });
    if (line.mark !== undefined) {
      const lowest = `${label(line.name)}<br>lowest: epoch ${line.x[line.mark]}, ${number(line.y[line.mark])}`;
      found.push({ x: [line.x[line.mark]], y: [line.y[line.mark]], mode: "markers",
        marker: { color: pen, size: 9 }, text: [lowest], hoverinfo: "text" });
    }
    return found;
  }

  function panel(plot, made, off) {
    const lines = made.lines.filter((line) => !off.has(line.series));
    const traces = lines.flatMap((line) => lineTraces(line, lines.length > 4));  // bands that cover each other are fainter
    const range = made.limits ? { range: made.limits } : {};
    const ticks = made.log ? { type: "log", tickvals: made.ticks, ticktext: made.ticks.map(number) } : {};
    const yaxis = { ...range, ...ticks };
    const whole = made.whole && made.whole[1] - made.whole[0] <= 8 ? { dtick: 1, tick0: 0 } : {};
    draw(plot, traces, base({ height: 290, xaxis: { title: { text: made.x, standoff: 4 }, range: made.span, ...whole }, yaxis }), made.alt);
  }

  function broken(text, characters) {
    const lines = [""];
    text.split(" ").forEach((word) => {
      const last = lines.length - 1, longer = lines[last] && `${lines[last]} ${word}`;
      if (longer.length > characters) lines.push(word);
      else lines[last] = longer || word;
    });
    return lines.map(escaped);
  }

  const rowsLayout = (plot, made, right, title, { xaxis, ...more }) => {
    const ticktext = made.rows.map((row) => label(row.name)), longest = Math.max(...ticktext.map((text) => text.length));
    const yaxis = { tickvals: made.rows.map((_, i) => i), ticktext, autorange: false,
      range: [made.rows.length - 0.5, -0.5], showgrid: false, fixedrange: true, ticklabelstandoff: 8 };
    const left = Math.min(230, 24 + 7.6 * longest), room = plot.parentElement.clientWidth - left - right;
    // The title stands in the middle below the axis, and may be as wide as the page has room on both sides.
    const lines = broken(title, Math.max(12, (room + 2 * Math.min(left, right)) / 7.5)), below = 17 * (lines.length - 1);
    return base({ height: 28 * made.rows.length + 62 + below, ...more, yaxis,
      xaxis: { ...xaxis, title: { text: lines.join("<br>"), standoff: 6 } }, margin: { l: left, r: right, t: 4, b: 48 + below } });
  };

  function forest(plot, made) {
    const rows = made.rows.map((row, y) => ({ ...row, y })).filter((row) => row.value !== null);
    const far = (row) => Math.abs(row.value) > made.limit;
    const symbol = (row) => !far(row) ? "circle" : row.value < 0 ? "triangle-left" : "triangle-right";
    const whisker = (row, end) => far(row) || row.low === null ? 0 : Math.abs(row[end] - row.value);
    const traces = rows.map((row) => ({
      x: [Math.max(-made.limit, Math.min(made.limit, row.value))], y: [row.y], mode: "markers", cliponaxis: false,
      marker: { color: colour(row.series), size: 11, symbol: symbol(row) },
      error_x: { type: "data", symmetric: false, array: [whisker(row, "high")], arrayminus: [whisker(row, "low")],
        color: colour(row.series), thickness: 2, width: 0 },
      text: [`${label(row.name)}: ${escaped(made.said[row.y])}`], hoverinfo: "text",
    }));
    const narrow = plot.parentElement.clientWidth < 600;  // the table has the figures too
    const annotations = narrow ? [] : made.rows.map((row, y) => ({ x: 1.02, xref: "paper", xanchor: "left", y, showarrow: false,
      text: `${sign[row.word] ?? "–"} ${escaped(made.said[y])}` }));
    const shapes = [{ type: "line", x0: 0, x1: 0, yref: "paper", y0: 0, y1: 1, layer: "below",
      line: { color: css("--soft"), dash: "dot", width: 1 } }];
    if (made.region !== null) {
      shapes.unshift({ type: "rect", x0: -made.region, x1: made.region, yref: "paper", y0: 0, y1: 1, layer: "below",
        fillcolor: css("--region"), line: { width: 0 } });
    }
    const xaxis = { range: [-1.05 * made.limit, 1.05 * made.limit], showgrid: false, showline: true };
    draw(plot, traces, rowsLayout(plot, made, narrow ? 16 : 230, made.unit, { xaxis, shapes, annotations }), made.alt);
  }

  function bars(plot, made) {
    const trace = { type: "bar", orientation: "h", x: made.rows.map((row) => row.value), y: made.rows.map((_, i) => i),
      marker: { color: made.rows.map((row) => colour(row.series)) }, text: made.rows.map((row) => `${number(row.value)} ${made.unit}`),
      textposition: "outside", cliponaxis: false, hoverinfo: "text", width: 0.6, textfont: { color: css("--ink") } };
    draw(plot, [trace], rowsLayout(plot, made, 70, made.axis, { xaxis: { rangemode: "tozero" } }), made.alt);
  }

  function draw(plot, traces, layout, alt) {
    plot.hidden = false;
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", alt);
    Plotly.react(plot, traces, layout, { displayModeBar: false, responsive: true, doubleClick: "reset" });
  }

  function figure(id) {
    const place = document.querySelector(`figure[data-chart="${id}"]`), made = actlab.figures[id];
    place.classList.add("drawn");
    place.querySelectorAll(".plot").forEach((plot, i) => {
      if (made.kind === "forest") forest(plot, made);
      else if (made.kind === "bars") bars(plot, made);
      else panel(plot, made.panels[i], hidden[id]);
    });
  }

  function legend(id) {
    const items = document.querySelectorAll(`figure[data-chart="${id}"] .legend li`);
    hidden[id] = new Set();
    items.forEach((item, place) => {
      const button = document.createElement("button"), series = Number(item.dataset.series);
      const show = () => button.setAttribute("aria-pressed", String(!hidden[id].has(series)));
      if (place >= actlab.figures[id].shown) hidden[id].add(series);
      button.type = "button";
      button.append(...item.childNodes);
      item.append(button);
      button.addEventListener("click", () => {
        if (!hidden[id].delete(series)) hidden[id].add(series);
        show();
        figure(id);
      });
      show();
    });
  }

  // Each is drawn when it comes near: all at once would take seconds in which the page does not answer.
  const near = new IntersectionObserver((seen) => seen.filter((one) => one.isIntersecting).forEach(({ target }) => {
    near.unobserve(target);
    figure(target.dataset.chart);
  }), { rootMargin: "600px" });
  document.querySelectorAll(".interactive").forEach((part) => { part.hidden = false; });
  Object.keys(actlab.figures).forEach(legend);
  document.querySelectorAll("figure.chart").forEach((place) => near.observe(place));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    document.querySelectorAll("figure.drawn").forEach((place) => figure(place.dataset.chart));
  });
}
