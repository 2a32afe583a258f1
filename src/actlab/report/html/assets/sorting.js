"use strict";
// Headings that sort a table, by mouse and by keyboard.
{
  /**
   * Make the headings of a table sort it.
   * value(row, column) is a number, a text or null; changed() is called after each press.
   * Returns a comparison of two rows: missing values are last in both directions, and equal rows keep their order.
   */
  actlab.sortable = (table, value, changed) => {
    const cells = [...table.tHead.rows[0].cells];
    let by = null, up = true;
    cells.forEach((cell, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        up = by === column ? !up : true;
        by = column;
        cells.forEach((one) => one.removeAttribute("aria-sort"));
        cell.setAttribute("aria-sort", up ? "ascending" : "descending");
        changed();
      });
    });
    return (a, b) => {
      if (by === null) return a - b;
      const [x, y] = [value(a, by), value(b, by)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const way = typeof x === "number" ? x - y : x.localeCompare(y);
      return (up ? way : -way) || a - b;
    };
  };

  /** Return the value of a cell; in a column of numbers its first number. */
  function read(cell) {
    const text = cell.textContent.trim();
    if (text === "–" || text === "") return null;
    if (!cell.classList.contains("n")) return text;
    const number = Number.parseFloat(text.replaceAll("−", "-"));
    return Number.isNaN(number) ? null : number;
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0], lines = [...body.rows];
    const values = lines.map((line) => [...line.cells].map(read));
    const order = actlab.sortable(table, (row, column) => values[row][column], () => {
      body.replaceChildren(...lines.map((_, row) => row).sort(order).map((row) => lines[row]));
    });
  });
}
