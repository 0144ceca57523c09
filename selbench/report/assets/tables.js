// Makes tables sortable and filterable and lets columns be chosen; without it they are plain tables.
"use strict";
function choose(table) {
  const picker = document.createElement("details");
  picker.className = "picker";
  picker.append(Object.assign(document.createElement("summary"), { textContent: "Choose columns" }));
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    if (!place) return; // a row's name stays
    const hide = `hide-${place + 1}`;
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !table.classList.contains(hide) });
    box.addEventListener("change", () => table.classList.toggle(hide, !box.checked));
    const label = document.createElement("label");
    label.append(box, " ", head.textContent);
    picker.append(label);
  });
  table.closest(".scroll").before(picker);
}
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
  document.querySelectorAll("table[data-picker]").forEach(choose);
  for (const table of document.querySelectorAll("table.sortable")) {
    const filtered = "filter" in table.dataset;
    new selbenchTables.ITable(table, {
      paging: false,
      info: filtered,
      order: [],
      autoWidth: false,
      layout: { topStart: filtered ? "search" : null, topEnd: null, bottomStart: filtered ? "info" : null, bottomEnd: null },
      language: {
        search: table.dataset.filter,
        info: "_TOTAL_ rows",
        infoEmpty: "no rows",
        infoFiltered: "of _MAX_",
        zeroRecords: "Nothing matches this filter.",
      },
    });
  }
});
