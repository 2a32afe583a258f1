"use strict";
// Prepare tables for the report's sorting.js: it sorts cells with the class n as numbers.
const actlab = {};
document.querySelectorAll("table.sortable td").forEach((cell) => {
  if (/^[−\d]/.test(cell.textContent.trim())) cell.classList.add("n");
});
