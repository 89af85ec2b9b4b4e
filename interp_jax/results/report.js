"use strict";
// Draws each figure from the JSON beside it. Without plotly.min.js, or with a figure that it refuses, the line that
// stands in the figure's place stays.
function draw(graph) {
  const figure = JSON.parse(document.getElementById(graph.id + "-data").textContent);
  const fluid = !figure.layout.width;
  const options = { responsive: fluid, displayModeBar: fluid ? "hover" : false, modeBarButtons: [["toImage", "resetScale2d"]], displaylogo: false };
  const fallback = graph.firstElementChild;
  Plotly.newPlot(graph, figure.data, figure.layout, options).then(() => fallback.remove());
}

if (window.Plotly) document.querySelectorAll(".graph").forEach(draw);
