// Draws the charts of a report, and draws them anew for paper: light, and as wide as a page.
"use strict";

(() => {
  const root = document.documentElement.dataset;
  const series = JSON.parse(document.getElementById("series").textContent);
  const charts = abmonitorCharts.drawAll(document, series);

  function again() {
    for (const chart of charts.values()) chart.restyle();
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("beforeprint", () => {
    root.theme = "light";
    root.paper = "a4"; // its layout, so that charts get the width that they will have
    again();
  });
  addEventListener("afterprint", () => {
    delete root.theme;
    delete root.paper;
    again();
  });
})();
