"use strict";
// The table of all runs: sorted by its headings, filtered by words and by what is chosen in the plot.
{
  const table = document.getElementById("runs-table"), { columns, rows } = actlab.runs;
  const listeners = [];
  let inPlot = () => true, lines = [], order;

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

  function value(run, column) {
    const found = rows[run][column];
    return found === null || columns[column].number ? found : String(found);
  }

  function apply() {
    const found = filter(document.getElementById("filter").value);
    const chosen = lines.map((_, run) => run).filter((run) => inPlot(run) && found(run));
    table.tBodies[0].replaceChildren(...chosen.sort(order).map((run) => lines[run].row));
    const all = chosen.length === lines.length;
    document.getElementById("chosen").textContent = all ? `All ${lines.length} runs` : `${chosen.length} of ${lines.length} runs`;
    listeners.forEach((listener) => listener(new Set(chosen)));
  }

  actlab.choose = (test) => { inPlot = test; apply(); };
  actlab.onChosen = (listener) => listeners.push(listener);
  if (table && rows.length > 1) {
    lines = [...table.tBodies[0].rows].map((row, run) => {
      row.dataset.run = run;
      return { row, text: row.textContent.toLowerCase() };
    });
    order = actlab.sortable(table, value, apply);
    document.getElementById("filter").addEventListener("input", apply);
    apply();
  }
}
