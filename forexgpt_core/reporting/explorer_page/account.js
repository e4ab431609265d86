// Equity and drawdown of one account or of several.

function falls(values) {
  let peak = -Infinity;
  return values.map((value) => {
    peak = Math.max(peak, value);
    return peak > 0 ? 100 * (value / peak - 1) : 0;
  });
}

const growth = (values) => values.map((value) => 100 * (value / values[0] - 1));

function laterLine(starts) {
  if (!starts.length) return { shapes: [], annotations: [] };
  const x = Math.min(...starts);
  return {
    shapes: [{ type: "line", x0: x, x1: x, y0: 0, y1: 1, yref: "paper", line: { color: colourOf("later"), width: 1.5, dash: "dot" } }],
    annotations: [{ x, y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, text: "never searched →", font: { size: 11, color: colourOf("later") } }],
  };
}

function accountLayout(title, more) {
  return {
    ...baseLayout(), margin: { l: 62, r: 8, t: 20, b: 44 }, hovermode: "x",
    xaxis: axis("", { type: "date", anchor: "y2" }), yaxis: axis(title, { domain: [0.4, 1] }),
    yaxis2: axis("drawdown %", { domain: [0, 0.33], rangemode: "tozero" }), ...more,
  };
}

function drawAccount(node, member) {
  const traces = [];
  for (const [part, colour, name] of [["searched", "ink", "searched"], ["later", "later", "later"]]) {
    const curve = curveOf(member, part);
    if (!curve.values.length) continue;
    traces.push({ x: curve.times, y: curve.values, name, type: "scatter", mode: "lines", line: { color: colourOf(colour), width: 1.4 }, hovertemplate: "%{y:,.2f}<extra>%{fullData.name}</extra>" });
    traces.push({ x: curve.times, y: falls(curve.values), name, yaxis: "y2", type: "scatter", mode: "lines", fill: "tozeroy", fillcolor: colourOf("loss") + "33", line: { color: colourOf("loss"), width: 1 }, hovertemplate: "%{y:.2f} %<extra></extra>" });
  }
  const later = curveOf(member, "later");
  Plotly.react(node, traces, accountLayout("equity", laterLine(later.times.slice(0, 1))), PLOT_OPTIONS);
}

function drawAccounts(node, chosen) {
  const traces = [];
  chosen.forEach((member, place) => {
    for (const part of ["searched", "later"]) {
      const curve = curveOf(member, part);
      if (!curve.values.length) continue;
      const line = { color: colourOf(SERIES[place]), width: 1.4 };
      traces.push({ x: curve.times, y: growth(curve.values), name: member.hash, type: "scatter", mode: "lines", line, hovertemplate: "%{y:.2f} %<extra>%{fullData.name}</extra>" });
      traces.push({ x: curve.times, y: falls(curve.values), name: member.hash, yaxis: "y2", type: "scatter", mode: "lines", line: { ...line, width: 1 }, hovertemplate: "%{y:.2f} %<extra></extra>" });
    }
  });
  const starts = chosen.map((member) => member.later.times.start && member.later.values.length ? member.later.times.start : Infinity).filter(isNumber);
  Plotly.react(node, traces, accountLayout("growth of each part %", laterLine(starts)), PLOT_OPTIONS);
}
