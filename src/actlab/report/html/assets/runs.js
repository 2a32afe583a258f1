"use strict";
// The table of all runs: sorted by its headings, filtered by words and by what is chosen in the plot.
{
  const table = document.getElementById("runs-table"), { columns, rows } = actlab.runs;
  const listeners = [];
  const PRINTED = 40;  // rows on paper
  let inPlot = () => true, lines = [], sequence = [], order;

  const condition = /([\p{L}_]+)\s*(<=|>=|==?|<|>)\s*(\S+)/gu;
  const compare = {
    "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "==": (a, b) => a === b,
  };

  /** Return whether a run is what was typed: words anywhere in it, and conditions such as "score > 0.95"; and doubts. */
  function filter(typed) {
    const tests = [], doubts = [];
    const words = typed.toLowerCase().replace(condition, (all, name, sign, said) => {
      const at = columns.findIndex((column) => column.name.replaceAll(" ", "_") === name), value = said.replace(/,$/, "");
      const bound = columns[at]?.number ? Number(value) : value;
      if (at < 0) doubts.push(`no column is called ${name}`);
      else if (Number.isNaN(bound)) doubts.push(`${value} is no number`);
      if (at < 0 || Number.isNaN(bound)) return all;  // it may be a part of a name
      tests.push((run) => rows[run][at] !== null && compare[sign](columns[at].number ? rows[run][at] : String(rows[run][at]).toLowerCase(), bound));
      return " ";
    }).split(/\s+/).filter(Boolean);
    return [(run) => tests.every((test) => test(run)) && words.every((word) => lines[run].text.includes(word)), doubts];
  }

  function value(run, column) {
    const found = rows[run][column];
    return found === null || columns[column].number ? found : String(found);
  }

  function apply() {
    const [found, doubts] = filter(document.getElementById("filter").value);
    const chosen = new Set(sequence.filter((run) => inPlot(run) && found(run)));
    // Rows are hidden and not taken out: to lay a thousand out anew takes a tenth of a second.
    let place = 0;
    sequence.forEach((run) => {
      const { row } = lines[run];
      row.hidden = !chosen.has(run);
      row.classList.toggle("beyond", !row.hidden && ++place > PRINTED);
    });
    const all = chosen.size === lines.length, why = chosen.size ? "" : doubts.map((doubt) => `; ${doubt}`).join("");
    document.getElementById("selected").textContent = all ? `All ${lines.length} runs` : `${chosen.size} of ${lines.length} runs${why}`;
    listeners.forEach((listener) => listener(chosen));
  }

  function arrange() {
    sequence.sort(order);
    table.tBodies[0].replaceChildren(...sequence.map((run) => lines[run].row));
    apply();
  }

  actlab.choose = (test) => { inPlot = test; apply(); };
  actlab.onChosen = (listener) => listeners.push(listener);
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
