// Makes tables sortable and filterable; without it they are plain tables.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
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
