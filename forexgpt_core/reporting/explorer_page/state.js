// What the person chose. The address holds all of it, so a link opens the same view.

const MOST_COMPARED = 4;
const LIMITS = { trades: ["trades", 1], drawdown: ["max_drawdown_pct", -1], sharpe: ["sharpe", 1] };

function startingAxes() {
  const inSample = figures.filter((figure) => figure.part === "in");
  const numeric = inSample.length ? inSample : figures;
  const low = numeric.find((figure) => figure.better < 0) || numeric[1] || numeric[0];
  const high = numeric.find((figure) => figure.better > 0) || numeric[0];
  const colour = byKey.get("out.sharpe") || figures.find((figure) => figure.part === "out") || null;
  return { x: low ? low.key : "", y: high ? high.key : "", colour: colour ? colour.key : "" };
}

const START = Object.freeze({
  ...startingAxes(), trail: false, query: "", part: "in", trades: "", drawdown: "", sharpe: "", hide: false,
  sort: "", down: true, selected: "", compared: [], tab: "member",
});
const state = { ...START };

function readAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  const kept = { ...START };
  for (const axis of ["x", "y", "colour"]) {
    if (byKey.has(found.get(axis)) || (axis === "colour" && found.get(axis) === "none")) kept[axis] = found.get(axis);
  }
  for (const name of ["trail", "hide"]) kept[name] = found.get(name) === "1";
  for (const name of Object.keys(LIMITS)) if (isNumber(parseFloat(found.get(name)))) kept[name] = String(parseFloat(found.get(name)));
  kept.query = found.get("query") || "";
  if (["in", "out", "both"].includes(found.get("part"))) kept.part = found.get("part");
  if (byKey.has(found.get("sort")) || found.get("sort") === "hash") kept.sort = found.get("sort");
  kept.down = found.get("down") !== "0";
  if (byHash.has(found.get("selected"))) kept.selected = found.get("selected");
  const compared = (found.get("compared") || "").split(",").filter((hash) => byHash.has(hash));
  kept.compared = [...new Set(compared)].slice(0, MOST_COMPARED);
  if (found.get("tab") === "compare") kept.tab = "compare";
  Object.assign(state, kept);
}

function writeAddress() {
  const told = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    const text = Array.isArray(value) ? value.join(",") : value === true ? "1" : value === false ? "0" : String(value);
    const usual = Array.isArray(value) ? "" : START[name];
    if (text !== "" && value !== usual) told.set(name, text);
  }
  const text = told.toString();
  try {
    history.replaceState(null, "", text ? `#${text}` : "#");
  } catch {
    // In a frame without an address of its own there is nothing to link to.
  }
}

function passesLimit(member, field) {
  if (state[field] === "" || !isNumber(Number(state[field]))) return true;
  const [name, direction] = LIMITS[field];
  const parts = state.part === "both" ? ["in", "out"] : [state.part];
  return parts.every((part) => {
    const value = member[part][name];
    return isNumber(value) && direction * (value - Number(state[field])) >= 0;
  });
}

function passes(member) {
  const query = state.query.trim().toLowerCase();
  const found = !query || member.hash.includes(query) || picksOf.get(member.hash).some((name) => name.toLowerCase().includes(query));
  return found && !(state.hide && member.fallsApart) && Object.keys(LIMITS).every((field) => passesLimit(member, field));
}

function ordered(shownMembers) {
  if (!state.sort) return shownMembers;
  const read = state.sort === "hash" ? (member) => member.hash : byKey.get(state.sort).get;
  const sign = state.down ? -1 : 1;
  return [...shownMembers].sort((one, other) => {
    const [a, b] = [read(one), read(other)];
    if (!present(a) || !present(b)) return present(b) - present(a); // what is undefined stands last, whichever way
    return sign * (isNumber(a) && isNumber(b) ? a - b : String(a).localeCompare(String(b)));
  });
}

function choosesByLater() {
  const sorted = state.sort && byKey.has(state.sort) && ["out", "verdict"].includes(byKey.get(state.sort).part);
  const limited = state.part !== "in" && Object.keys(LIMITS).some((field) => state[field] !== "");
  return Boolean(sorted || limited || state.hide);
}
