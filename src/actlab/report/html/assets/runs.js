"use strict";
// The table of all runs: sorted by its headings, filtered by text and by the selection in the parallel coordinates.
{
  const table = document.getElementById("runs-table"), { columns, rows } = actlab.runs;
  const listeners = [];
  const PRINTED = 40;  // rows on paper
  let inPlot = () => true, lines = [], sequence = [], order;

  const condition = /([\p{L}_]+)\s*(<=|>=|==?|<|>)\s*(\S+)/gu;
  const compare = {
    "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "==": (a, b) => a === b,
  };

  /** Return a test of runs for words and conditions such as "score > 0.95", and messages on conditions it cannot read. */
  function filter(typed) {
    const tests = [], problems = [];
    const words = typed.toLowerCase().replace(condition, (all, name, sign, text) => {
      const at = columns.findIndex((column) => column.name.replaceAll(" ", "_") === name), value = text.replace(/,$/, "");
      const bound = columns[at]?.number ? Number(value) : value;
      if (at < 0) problems.push(`no column is called ${name}`);
      else if (Number.isNaN(bound)) problems.push(`${value} is not a number`);
      if (at < 0 || Number.isNaN(bound)) return all;  // it may be part of a name
      tests.push((run) => rows[run][at] !== null && compare[sign](columns[at].number ? rows[run][at] : String(rows[run][at]).toLowerCase(), bound));
      return " ";
    }).split(/\s+/).filter(Boolean);
    return [(run) => tests.every((test) => test(run)) && words.every((word) => lines[run].text.includes(word)), problems];
  }

  function value(run, column) {
    const cell = rows[run][column];
    return cell === null || columns[column].number ? cell : String(cell);
  }

  function apply() {
    const [matches, problems] = filter(document.getElementById("filter").value);
    const selected = new Set(sequence.filter((run) => inPlot(run) && matches(run)));
    // Hiding rows is faster than removing them: laying out a thousand rows takes a tenth of a second.
    let place = 0;
    sequence.forEach((run) => {
      const { row } = lines[run];
      row.hidden = !selected.has(run);
      row.classList.toggle("beyond", !row.hidden && ++place > PRINTED);
    });
    const all = selected.size === lines.length, why = selected.size ? "" : problems.map((problem) => `; ${problem}`).join("");
    document.getElementById("selected").textContent = all ? `All ${lines.length} runs` : `${selected.size} of ${lines.length} runs${why}`;
    listeners.forEach((listener) => listener(selected));
  }

  function arrange() {
    sequence.sort(order);
    table.tBodies[0].replaceChildren(...sequence.map((run) => lines[run].row));
    apply();
  }

  actlab.select = (test) => { inPlot = test; apply(); };
  actlab.onSelected = (listener) => listeners.push(listener);
  if (table && rows.length > 1) {
    lines = [...table.tBodies[0].rows].map((row, run) => {
      row.dataset.run = run;
      return { row, text: row.textContent.toLowerCase() };
    });
    sequence = lines.map((_, run) => run);
    table.classList.add("live");
    order = actlab.sortable(table, value, arrange);
    document.getElementById("filter").addEventListener("input", apply);
    apply();
  }
}
