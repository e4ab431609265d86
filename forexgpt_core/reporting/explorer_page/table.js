// The table of members: sortable, one row in the tab order, arrow keys move.

const COLUMNS = columnsOf();
let focused = ""; // hash of the row in the tab order

function columnsOf() {
  const names = [...new Set([...documentData.objectives.map((one) => one.name), "trades"])];
  const pairs = names.flatMap((name) => ["in", "out"].map((part) => byKey.get(`${part}.${name}`))).filter(Boolean);
  const verdict = figures.filter((figure) => figure.part === "verdict");
  const settings = figures.filter((figure) => figure.part === "parameters" && varies(figure));
  return [...pairs, ...verdict, ...settings];
}

function columnHead(key, text, name, rows) {
  const active = state.sort === key;
  const arrow = active ? (state.down ? " ▼" : " ▲") : "";
  const sort = () => {
    state.down = active ? !state.down : key !== "hash" && byKey.get(key).better >= 0;
    state.sort = key;
    refresh();
    byId("members").querySelector(`th[data-key="${CSS.escape(key)}"] button`).focus();
  };
  return el("th", { scope: "col", "data-key": key, rowspan: rows, "aria-sort": active ? (state.down ? "descending" : "ascending") : "none" },
    el("button", { type: "button", title: `Sort by ${name}`, "aria-label": name, onclick: sort }, text + arrow));
}

// A figure of both parts has one head over two, what belongs to no part one head alone.
function drawHead() {
  const upper = [columnHead("hash", "Member", "Member", "2")];
  const lower = [];
  for (const figure of COLUMNS) {
    if (!(figure.part in PARTS)) {
      upper.push(columnHead(figure.key, figure.label, figure.label, "2"));
      continue;
    }
    const parts = COLUMNS.filter((other) => other.name === figure.name && other.part in PARTS);
    if (parts[0] === figure) upper.push(el("th", { scope: "colgroup", colspan: String(parts.length), class: "over" }, figure.label));
    lower.push(columnHead(figure.key, figure.part === "in" ? "in" : "later", fullLabel(figure)));
  }
  byId("members").tHead.replaceChildren(el("tr", {}, ...upper), el("tr", {}, ...lower));
}

function cell(figure, member) {
  const value = figure.get(member);
  const counts = figure.part === "out" && ["return_pct", "sharpe"].includes(figure.name) && isNumber(value);
  return el("td", { class: counts && value <= 0 ? "bad" : null }, shown(value));
}

function rowOf(member) {
  const compared = state.compared.includes(member.hash);
  const box = el("input", { type: "checkbox", tabindex: "-1", "aria-label": `Compare ${member.hash}`, title: "Compare (space)", onclick: (event) => { event.stopPropagation(); toggleCompared(member.hash); } });
  box.checked = compared;
  const row = el("tr", { "data-hash": member.hash, tabindex: member.hash === focused ? "0" : "-1", "aria-selected": String(member.hash === state.selected), class: member.fallsApart ? "fallen" : null },
    el("td", {}, box, " ", el("span", { class: "hash" }, member.hash), ...narrowBadges(member)), ...COLUMNS.map((figure) => cell(figure, member)));
  row.addEventListener("click", (event) => (event.shiftKey ? toggleCompared(member.hash) : select(member.hash)));
  row.addEventListener("focus", () => tabTo(row));
  return row;
}

function drawTable(passing) {
  const hadFocus = document.activeElement && document.activeElement.closest("#members tbody") !== null;
  const rows = ordered(passing);
  if (!rows.some((member) => member.hash === focused)) focused = rows.some((member) => member.hash === state.selected) ? state.selected : rows.length ? rows[0].hash : "";
  drawHead();
  const none = el("tr", {}, el("td", { colspan: String(COLUMNS.length + 1) }, "No member passes the filters; Reset shows all."));
  byId("members").tBodies[0].replaceChildren(...(rows.length ? rows.map(rowOf) : [none]));
  const total = members.length;
  byId("count").textContent = `${passing.length} of ${total} shown`;
  byId("spent").hidden = !choosesByLater();
  if (hadFocus && focused) rowElement(focused).focus({ preventScroll: true });
}

const rowElement = (hash) => byId("members").querySelector(`tr[data-hash="${CSS.escape(hash)}"]`);

function tabTo(row) {
  for (const other of byId("members").querySelectorAll("tbody tr[tabindex='0']")) other.tabIndex = -1;
  row.tabIndex = 0;
  focused = row.dataset.hash;
}

function enterTable() {
  const row = focused && rowElement(focused);
  if (row) row.focus();
}

const MOVES = {
  ArrowDown: (place) => place + 1, ArrowUp: (place) => place - 1, PageDown: (place) => place + 10, PageUp: (place) => place - 10,
  Home: () => 0, End: (_, last) => last,
};

function tableKey(event) {
  const row = event.target.closest("tbody tr[data-hash]");
  if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...row.parentElement.children];
  if (event.key in MOVES) {
    const to = Math.min(Math.max(MOVES[event.key](rows.indexOf(row), rows.length - 1), 0), rows.length - 1);
    rows[to].focus();
  } else if (event.key === "Enter") {
    event.shiftKey ? toggleCompared(row.dataset.hash) : select(row.dataset.hash);
  } else if (event.key === " ") {
    toggleCompared(row.dataset.hash);
  } else {
    return;
  }
  event.preventDefault();
}
