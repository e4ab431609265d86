// The document, the figures that can be axes or columns, and how a value is written.

const documentData = JSON.parse(document.getElementById("data").textContent);
const members = documentData.members;
const byHash = new Map(members.map((member) => [member.hash, member]));
const NOTHING = "–";
const plainly = (entries) => Object.assign(Object.create(null), entries); // a name such as "constructor" finds nothing
const LABELS = plainly({
  cagr_pct: "CAGR", sqn: "SQN", max_drawdown_pct: "Max. drawdown", average_trade_pct: "Average trade",
});
const PARTS = { in: "in sample", out: "out of sample" };
const BETTER = plainly({ // of figures that are no objective of the search; 1: the larger
  return_pct: 1, cagr_pct: 1, sharpe: 1, sortino: 1, calmar: 1, sqn: 1, win_rate_pct: 1, profit_factor: 1, average_trade_pct: 1,
  max_drawdown_pct: -1, probabilistic_sharpe: 1, deflated_sharpe: 1, expectancy_pct: 1,
});
for (const one of documentData.objectives) BETTER[one.name] = one.goal === "max" ? 1 : -1;
const UNITS = plainly(Object.fromEntries(documentData.objectives.map((one) => [one.name, one.unit])));
const picksOf = new Map(members.map((member) => [member.hash, []]));
for (const [name, hash] of Object.entries(documentData.picks)) picksOf.get(hash).push(words(name));

function words(name) {
  return String(name).replace(/_/g, " ").replace(/\bsharpe\b/g, "Sharpe");
}

function label(name) {
  const plain = LABELS[name] || words(name.replace(/_pct$/, ""));
  const unit = UNITS[name] || (/_pct$/.test(name) ? "%" : "");
  const text = plain.charAt(0).toUpperCase() + plain.slice(1);
  return unit === "%" ? `${text} %` : unit ? `${text}, ${unit}` : text;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function shown(value) {
  if (value === null || value === undefined || value === "") return NOTHING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value) ? value.slice(0, 16).replace("T", " ") : value;
  if (!isNumber(value)) return NOTHING;
  const size = Math.abs(value);
  if (Number.isInteger(value)) return grouped(value, 0);
  if (size >= 1000) return grouped(value, 0);
  if (size >= 100) return grouped(value, 1);
  if (size >= 0.1) return grouped(value, 2);
  return size < 1e-4 ? value.toExponential(1).replace("-", "−") : grouped(value, 4);
}

function grouped(value, decimals) {
  const text = value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  return text.replace("-", "−");
}

function moment(ms) {
  return isNumber(ms) ? new Date(ms).toISOString().slice(0, 16).replace("T", " ") : NOTHING;
}

// A figure: key as "in.sharpe", where it belongs, and how to read it off a member.
function namesOf(part) {
  const found = new Set();
  const first = documentData.objectives.map((one) => one.name);
  for (const member of members) for (const name of Object.keys(member[part])) found.add(name);
  return [...first.filter((name) => found.has(name)), ...[...found].filter((name) => !first.includes(name))];
}

function figuresOf(part, group, keep) {
  return namesOf(part)
    .filter((name) => members.some((member) => keep(member[part][name])))
    .map((name) => ({
      key: `${part}.${name}`, part, name, group, label: label(name), better: part === "parameters" ? 0 : BETTER[name] || 0,
      get: (member) => member[part][name] ?? null,
    }));
}

const present = (value) => value !== null && value !== undefined;
const figures = [
  ...figuresOf("in", "In sample", isNumber),
  ...figuresOf("out", "Out of sample", isNumber),
  ...figuresOf("verdict", "Verdict", isNumber),
  ...figuresOf("parameters", "Parameters", () => true),
];
const byKey = new Map(figures.map((figure) => [figure.key, figure]));
const counterpart = (figure) => (figure.part === "in" ? byKey.get(`out.${figure.name}`) : undefined);
const varies = (figure) => new Set(members.map(figure.get)).size > 1;

function fullLabel(figure) {
  return figure.part in PARTS ? `${figure.label}, ${PARTS[figure.part]}` : figure.label;
}

// In a narrow place: "in" and "later" as in the head of the table.
function shortLabel(figure) {
  return figure.part in PARTS ? `${figure.label}, ${figure.part === "in" ? "in" : "later"}` : figure.label;
}

function times(coded) {
  const out = [coded.start];
  for (const step of coded.steps) out.push(out[out.length - 1] + step * coded.unit);
  return out;
}

function curveOf(member, part) {
  const values = member[part].values;
  return values.length ? { times: times(member[part].times), values } : { times: [], values: [] };
}

// Elements: text always as text, never as HTML.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const byId = (id) => document.getElementById(id);
const plotText = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const cut = (text, most) => plotText(String(text).length > most ? `${String(text).slice(0, most - 1)}…` : text);
const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function badges(member) {
  return [pickBadge(member), member.fallsApart && el("span", { class: "badge bad" }, "✕ falls apart")];
}

function narrowBadges(member) {
  const fallen = "falls apart out of sample";
  return [member.fallsApart && el("span", { class: "badge bad", title: fallen }, "✕", el("span", { class: "unseen" }, ` ${fallen}`)), pickBadge(member)];
}

function pickBadge(member) {
  const names = picksOf.get(member.hash);
  return names.length > 0 && el("span", { class: "badge picked", title: names.join(", ") }, "★", el("span", { class: "named" }, ` ${names.join(", ")}`));
}
