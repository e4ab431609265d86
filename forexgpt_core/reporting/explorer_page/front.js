// The scatter of the front.

const PLOT_OPTIONS = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d", "zoomIn2d", "zoomOut2d"] };
const DIVERGING = () => [[0, colourOf("loss")], [0.5, colourOf("faint")], [1, colourOf("ink")]];
const SERIES = ["one", "two", "three", "four"];

function baseLayout() {
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: colourOf("text") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: { bgcolor: colourOf("card"), bordercolor: colourOf("line"), font: { family: "system-ui, sans-serif", color: colourOf("text") }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colourOf("faint"), activecolor: colourOf("text") }, showlegend: false,
  };
}

function axis(title, more = {}) {
  return { ...(title ? { title: { text: title, standoff: 8 } } : {}), gridcolor: colourOf("grid"), zerolinecolor: colourOf("faint"), linecolor: colourOf("line"), ...more };
}

function plotValue(value) {
  return typeof value === "boolean" ? shown(value) : value;
}

function colouring(figure, drawn) {
  const values = drawn.map(figure.get);
  const bar = { title: { text: cut(fullLabel(figure), 40), side: "right" }, thickness: 10, outlinewidth: 0, len: 1 };
  if (!members.some((member) => isNumber(figure.get(member)))) {
    const kinds = [...new Set(members.map((member) => shown(figure.get(member))))].sort();
    const ticks = kinds.map((_, place) => place);
    const steps = kinds.flatMap((_, place) => [place, place + 1].map((end) => [end / kinds.length, colourOf(SERIES[place % SERIES.length])]));
    return { color: values.map((value) => kinds.indexOf(shown(value))), cmin: -0.5, cmax: kinds.length - 0.5, colorscale: steps, showscale: true, colorbar: { ...bar, tickvals: ticks, ticktext: kinds.map((kind) => cut(kind, 14)) } };
  }
  const all = members.map(figure.get).filter(isNumber);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const reach = Math.max(-low, high) || 1;
  const both = low < 0 && high > 0;
  const range = both ? { cmin: -reach, cmax: reach, colorscale: DIVERGING() } : { cmin: low, cmax: high > low ? high : low + 1, colorscale: "Cividis" };
  return { color: values, showscale: true, colorbar: bar, ...range };
}

function hoverText(member) {
  const lines = [`<b>${member.hash}</b> ${picksOf.get(member.hash).map(plotText).join(", ")}`];
  if (member.fallsApart) lines.push("✕ falls apart out of sample");
  const names = documentData.objectives.map((one) => one.name).concat("trades");
  for (const name of new Set(names)) {
    if (!present(member.in[name]) && !present(member.out[name])) continue;
    lines.push(`${plotText(label(name))}: ${plotText(shown(member.in[name]))} → ${plotText(shown(member.out[name]))}`);
  }
  lines.push(`Deflated Sharpe: ${shown(member.verdict.deflated_sharpe)}`);
  return lines.join("<br>");
}

function trailTraces(drawn, x, y) {
  const [laterX, laterY] = [counterpart(x), counterpart(y)];
  if (!state.trail || !laterX || !laterY) return [];
  const line = { x: [], y: [] };
  for (const member of drawn) {
    line.x.push(x.get(member), laterX.get(member), null);
    line.y.push(y.get(member), laterY.get(member), null);
  }
  const quiet = { hoverinfo: "skip", type: "scatter" };
  return [
    { ...quiet, mode: "lines", ...line, line: { color: colourOf("faint"), width: 1 } },
    { ...quiet, mode: "markers", x: drawn.map(laterX.get), y: drawn.map(laterY.get), marker: { size: 7, symbol: "circle-open", color: colourOf("later") } },
  ];
}

function diagonal(x, y) {
  if (x.name !== y.name || x.part === y.part || !(x.part in PARTS) || !(y.part in PARTS)) return [];
  const all = members.flatMap((member) => [x.get(member), y.get(member)]).filter(isNumber);
  const ends = [Math.min(...all), Math.max(...all)];
  return [{ x: ends, y: ends, mode: "lines", type: "scatter", hoverinfo: "skip", line: { color: colourOf("faint"), dash: "dash", width: 1 } }];
}

function rings(x, y) {
  const chosen = [...new Set([state.selected, ...state.compared].filter(Boolean))].map((hash) => byHash.get(hash));
  const colours = chosen.map((member) => {
    const place = state.compared.indexOf(member.hash);
    return colourOf(place < 0 ? "text" : SERIES[place]);
  });
  return { x: chosen.map((member) => plotValue(x.get(member))), y: chosen.map((member) => plotValue(y.get(member))), mode: "markers", type: "scatter", hoverinfo: "skip", marker: { size: 20, symbol: "circle-open", color: colours, line: { width: 2.5, color: colours } } };
}

// Names of picks stand above and below in turn along the axis, so that neighbours do not cover one another.
function pickLabels(x, y, drawn) {
  const named = drawn.filter((member) => picksOf.get(member.hash).length && present(x.get(member)) && present(y.get(member)));
  named.sort((one, other) => (isNumber(x.get(one)) ? x.get(one) - x.get(other) : 0));
  return named.map((member, place) => ({
    x: plotValue(x.get(member)), y: plotValue(y.get(member)), text: `★ ${cut(picksOf.get(member.hash).join(", "), 40)}`,
    font: { size: 11, color: colourOf("pick") }, bgcolor: colourOf("page") + "a0", borderpad: 1,
    showarrow: true, arrowhead: 0, arrowwidth: 1, arrowcolor: colourOf("pick"), ax: 0, ay: [-24, 26, -52, 54][place % 4], captureevents: false,
  }));
}

function drawFront(passing) {
  const [x, y] = [byKey.get(state.x), byKey.get(state.y)];
  const hidden = members.filter((member) => !passing.includes(member));
  const colour = byKey.get(state.colour);
  const point = (list) => ({ x: list.map((member) => plotValue(x.get(member))), y: list.map((member) => plotValue(y.get(member))), type: "scatter", mode: "markers" });
  const main = {
    ...point(passing), name: "members", customdata: passing.map((member) => member.hash), text: passing.map(hoverText), hovertemplate: "%{text}<extra></extra>",
    marker: {
      opacity: 1, size: passing.map((member) => (picksOf.get(member.hash).length ? 13 : 10)),
      symbol: passing.map((member) => (member.fallsApart ? "x" : "circle")),
      line: { width: passing.map((member) => (picksOf.get(member.hash).length ? 2 : 1)), color: passing.map((member) => colourOf(picksOf.get(member.hash).length ? "pick" : member.fallsApart ? "loss" : "soft")) },
      ...(colour ? colouring(colour, passing) : { color: colourOf("ink") }),
    },
  };
  const context = { ...point(hidden), hoverinfo: "skip", marker: { size: 6, color: colourOf("faint"), opacity: 0.5 } };
  const traces = [...diagonal(x, y), ...trailTraces(passing, x, y), context, main, rings(x, y)];
  const layout = {
    ...baseLayout(), margin: { l: 62, r: 10, t: 26, b: 42 }, hovermode: "closest", annotations: pickLabels(x, y, passing),
    xaxis: axis(cut(fullLabel(x), 60)), yaxis: axis(cut(fullLabel(y), 40)), uirevision: `${state.x} ${state.y}`,
  };
  Plotly.react("front", traces, layout, PLOT_OPTIONS);
}

function listenToFront() {
  new ResizeObserver(() => Plotly.Plots.resize("front")).observe(byId("front")); // notes and facts take room from it
  byId("front").on("plotly_click", (event) => {
    const hash = event.points.map((one) => one.customdata).find((one) => byHash.has(one));
    if (!hash) return;
    event.event.shiftKey ? toggleCompared(hash) : select(hash);
  });
}
