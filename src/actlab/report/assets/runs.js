"use strict";
// The table of all runs: sorted by its headings, filtered by words and by what is chosen in the plot.
{
  const table = document.getElementById("runs-table"), { columns, rows } = actlab.runs;
  const listeners = [];
  let inPlot = () => true, sorted = { column: null, up: true };

  const condition = /([\p{L}_]+)\s*(<=|>=|=|<|>)\s*(\S+)/gu;
  const compare = {
    "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
  };

  /** Return whether a run is what was typed: words anywhere in it, and conditions such as "score > 0.95". */
  function filter(typed) {
    const tests = [];
    const words = typed.toLowerCase().replace(condition, (all, name, sign, value) => {
      const at = columns.findIndex((column) => column.name.replaceAll(" ", "_") === name);
      const bound = columns[at]?.number ? Number(value) : value;
      if (at < 0 || Number.isNaN(bound)) return all;
      tests.push((run) => rows[run][at] !== null && compare[sign](columns[at].number ? rows[run][at] : String(rows[run][at]).toLowerCase(), bound));
      return " ";
    }).split(/\s+/).filter(Boolean);
    return (run) => tests.every((test) => test(run)) && words.every((word) => lines[run].text.includes(word));
  }

  function order(a, b) {
    const { column, up } = sorted;
    if (column === null) return a - b;
    const [x, y] = [rows[a][column], rows[b][column]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;  // what is missing is last
    const way = columns[column].number ? x - y : String(x).localeCompare(String(y));
    return (up ? way : -way) || a - b;
  }

  let lines = [];
  function apply() {
    const found = filter(document.getElementById("filter").value);
    const chosen = lines.map((_, run) => run).filter((run) => inPlot(run) && found(run));
    table.tBodies[0].replaceChildren(...chosen.sort(order).map((run) => lines[run].row));
    const all = chosen.length === lines.length;
    document.getElementById("chosen").textContent = all ? `All ${lines.length} runs` : `${chosen.length} of ${lines.length} runs`;
    listeners.forEach((listener) => listener(new Set(chosen)));
  }

  function sortBy(column) {
    sorted = { column, up: sorted.column === column ? !sorted.up : true };
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      if (i === column) cell.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    apply();
  }

  actlab.choose = (test) => { inPlot = test; apply(); };
  actlab.onChosen = (listener) => listeners.push(listener);
  if (table) {
    lines = [...table.tBodies[0].rows].map((row, run) => {
      row.dataset.run = run;
      return { row, text: row.textContent.toLowerCase() };
    });
    [...table.tHead.rows[0].cells].forEach((cell, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => sortBy(i));
    });
    document.getElementById("filter").addEventListener("input", apply);
    apply();
  }
}
