// Up to four members side by side: accounts over one another, settings and figures that differ.

// A row of one value for each member, or of several that belong together: "in → later".
function comparisonRow(text, rows, better) {
  const cells = rows[0].map(() => el("td"));
  for (const [number, values] of rows.entries()) {
    const best = bestOf(values, better);
    values.forEach((value, place) => cells[place].append(number ? " → " : "", el("span", { class: best !== null && value === best ? "best" : null }, shown(value))));
  }
  return el("tr", { class: rows.every(alike) ? "same" : null }, el("th", { scope: "row" }, text), ...cells);
}

const alike = (values) => values.every((value) => value === values[0]);

function bestOf(values, better) {
  const numbers = values.filter(isNumber);
  if (!better || numbers.length < 2 || alike(values)) return null;
  return better > 0 ? Math.max(...numbers) : Math.min(...numbers);
}

function comparisonHead(member, place) {
  const swatch = el("span", { class: "swatch", "aria-hidden": "true" });
  swatch.style.background = `var(--${SERIES[place]})`;
  const drop = el("button", { type: "button", class: "chip", "aria-label": `Take ${member.hash} out`, title: "Take out", onclick: () => toggleCompared(member.hash) }, "×");
  const open = el("button", { type: "button", class: "chip hash", title: "Select", onclick: () => select(member.hash) }, member.hash);
  return el("th", { scope: "col" }, el("span", { class: "hold" }, swatch, open, drop), ...narrowBadges(member));
}

function comparisonTable(chosen) {
  const heads = ["", ...chosen.map(comparisonHead)];
  const names = [...new Set([...namesOf("in"), ...namesOf("out")])].filter((name) => chosen.some((member) => present(member.in[name]) || present(member.out[name])));
  const rows = names.filter((name) => name in BETTER || name === "trades").map((name) =>
    comparisonRow(label(name), Object.keys(PARTS).map((part) => chosen.map((member) => member[part][name] ?? null)), BETTER[name] || 0));
  const verdicts = figures.filter((figure) => figure.part === "verdict").map((figure) => comparisonRow(figure.label, [chosen.map(figure.get)], figure.better));
  const settings = figures.filter((figure) => figure.part === "parameters").map((figure) => comparisonRow(figure.label, [chosen.map(figure.get)], 0));
  const differ = settings.filter((row) => !row.classList.contains("same"));
  return [
    el("h2", {}, "Figures ", el("small", {}, "in sample → later; the best of a row in bold")), grid(heads, [...rows, ...verdicts], "Figures compared", "compare-figures"),
    el("h2", {}, "Settings ", el("small", {}, `${differ.length} of ${settings.length} differ`)),
    grid(["", ...chosen.map(comparisonHead)], [...differ, ...settings.filter((row) => row.classList.contains("same"))], "Settings compared", "compare-settings"),
  ];
}

function drawCompare() {
  const node = byId("compare");
  const chosen = state.compared.map((hash) => byHash.get(hash));
  if (!chosen.length) {
    node.replaceChildren(el("p", { class: "blank" }, "Add up to four members with shift-click, the space bar or their check box."));
    return;
  }
  const plot = el("div", { class: "plot", id: "overlay", role: "img", "aria-label": "Growth and drawdown of the compared members" });
  plot.style.height = "21rem";
  node.replaceChildren(plot, ...comparisonTable(chosen));
  drawAccounts(plot, chosen);
}
