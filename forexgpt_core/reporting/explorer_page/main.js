// Wiring: controls, keys, and what is drawn again when the state changes.

function say(text) {
  byId("said").textContent = text;
}

function refresh() {
  const passing = members.filter(passes);
  drawControls();
  drawTable(passing);
  drawFront(passing);
  writeAddress();
}

function refreshLook() {
  const comparing = state.tab === "compare";
  for (const [id, on] of [["member", !comparing], ["compare", comparing]]) {
    byId(id).hidden = !on;
    byId(`tab-${id}`).setAttribute("aria-selected", String(on));
    byId(`tab-${id}`).tabIndex = on ? 0 : -1;
  }
  byId("tab-compare").textContent = state.compared.length ? `Compare (${state.compared.length})` : "Compare";
  comparing ? drawCompare() : drawMember();
}

function refreshAll() {
  refresh();
  refreshLook();
}

function select(hash) {
  state.selected = hash;
  state.tab = "member";
  focused = hash;
  refreshAll();
  const row = rowElement(hash);
  if (row) row.scrollIntoView({ block: "nearest" });
  byId("look").scrollTop = 0;
  say(`Selected ${hash}`);
}

function toggleCompared(hash) {
  const place = state.compared.indexOf(hash);
  if (place >= 0) state.compared = state.compared.filter((one) => one !== hash);
  else if (state.compared.length < MOST_COMPARED) state.compared = [...state.compared, hash];
  else say(`${MOST_COMPARED} members are compared already; take one out first`);
  const tab = state.tab;
  if (place < 0 && state.compared.length > 1) state.tab = "compare";
  if (!state.compared.length) state.tab = "member";
  refreshAll();
  if (state.tab !== tab) byId("look").scrollTop = 0;
}

function show(tab) {
  state.tab = tab;
  refreshLook();
  writeAddress();
}

function fillAxes() {
  const groups = () => [...new Set(figures.map((figure) => figure.group))].map((group) =>
    el("optgroup", { label: group }, ...figures.filter((figure) => figure.group === group).map((figure) => el("option", { value: figure.key }, shortLabel(figure)))));
  for (const id of ["x", "y", "colour"]) byId(id).replaceChildren(...groups());
  byId("colour").prepend(el("option", { value: "none" }, "one colour"));
}

function drawControls() {
  for (const id of ["x", "y", "colour", "part", "query", "trades", "drawdown", "sharpe"]) {
    if (byId(id).value !== state[id]) byId(id).value = state[id];
  }
  for (const id of ["trail", "hide"]) byId(id).checked = state[id];
  const tied = counterpart(byKey.get(state.x)) && counterpart(byKey.get(state.y));
  byId("trail").disabled = !tied;
  byId("trail").parentElement.title = tied ? "" : "For two in-sample axes";
}

function listen() {
  for (const id of ["x", "y", "colour", "part"]) byId(id).addEventListener("change", (event) => { state[id] = event.target.value; refresh(); });
  for (const id of ["query", "trades", "drawdown", "sharpe"]) byId(id).addEventListener("input", (event) => { state[id] = event.target.value; refresh(); });
  for (const id of ["trail", "hide"]) byId(id).addEventListener("change", (event) => { state[id] = event.target.checked; refresh(); });
  for (const node of document.querySelectorAll("[data-filter]")) node.hidden = !["in", "out"].some((part) => byKey.has(`${part}.${node.dataset.filter}`));
  byId("reset").addEventListener("click", () => { clearFilters(); });
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("help-close").addEventListener("click", () => byId("help").close());
  byId("members").addEventListener("keydown", tableKey);
  byId("query").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown" && event.key !== "Enter") return;
    event.preventDefault();
    enterTable();
  });
  for (const [tab, other] of [["member", "compare"], ["compare", "member"]]) {
    byId(`tab-${tab}`).addEventListener("click", () => show(tab));
    byId(`tab-${tab}`).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      show(other);
      byId(`tab-${other}`).focus();
    });
  }
  document.addEventListener("keydown", pageKey);
  addEventListener("hashchange", () => { readAddress(); refreshAll(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refreshAll);
}

function clearFilters() {
  for (const name of ["query", "part", "trades", "drawdown", "sharpe", "hide"]) state[name] = START[name];
  refresh();
}

function pageKey(event) {
  if (byId("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") return clearOne();
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) return undefined;
  if (event.key === "/") byId("query").focus();
  else if (event.key === "?") byId("help").showModal();
  else if (event.key === "c" && state.selected) copyCommand();
  else return undefined;
  return event.preventDefault();
}

// Escape takes back one thing at a time: filters, then the comparison, then the selection.
function clearOne() {
  const filtered = ["query", "trades", "drawdown", "sharpe", "hide"].some((name) => state[name] !== START[name]);
  if (filtered) return clearFilters();
  if (state.compared.length) Object.assign(state, { compared: [], tab: "member" });
  else if (state.selected) state.selected = "";
  else return undefined;
  return refreshAll();
}

readAddress();
fillAxes();
listen();
refreshAll();
listenToFront();
document.documentElement.dataset.ready = "yes";
