// Everything about the selected member.

const TRADES_A_PAGE = 15;
const approval = { by: "", reason: "" }; // kept while the page is open, whichever member is selected
const ledger = { hash: "", page: 0, part: "all" };

function quoted(word) {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`;
}

function deployCommand(hash) {
  const by = approval.by.trim() || "NAME";
  const reason = approval.reason.trim() || "TEXT";
  return ["forexgpt", "deploy", documentData.symbol, hash, "--by", by, "--reason", reason].map(quoted).join(" ");
}

function commandBox(member) {
  const line = el("code", { id: "command", "aria-label": "Command" }, deployCommand(member.hash));
  const hint = el("p", { class: "hint", id: "command-hint" });
  const told = () => {
    line.textContent = deployCommand(member.hash);
    hint.textContent = approval.by.trim() && approval.reason.trim()
      ? "Run it where FOREXGPT_HOME points to this platform; it trades from the next tick on."
      : "Say who approves and why: both are recorded with the deployment.";
  };
  const field = (name, text, width) => {
    const input = el("input", { id: name, autocomplete: "off", spellcheck: "false", size: width, placeholder: name === "by" ? "NAME" : "TEXT" });
    input.value = approval[name];
    input.addEventListener("input", () => { approval[name] = input.value; told(); });
    return el("label", {}, text, input);
  };
  told();
  const warning = member.fallsApart && el("p", { class: "warning" }, "It earned in sample and did not out of sample. Deploying it means trading on what luck found.");
  return el("div", { class: "command" }, el("div", { class: "bar" }, field("by", "By", "10"), field("reason", "Reason", "28")),
    el("div", { class: "line" }, line, el("button", { type: "button", id: "copy", title: "Copy (c)", onclick: copyCommand }, "Copy")), hint, warning);
}

async function copyCommand() {
  if (!state.selected) return;
  const text = deployCommand(state.selected);
  const copied = await toClipboard(text);
  const button = byId("copy");
  if (button) {
    button.textContent = copied ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  }
  if (!copied && byId("command")) getSelection().selectAllChildren(byId("command"));
  say(copied ? `Copied: ${text}` : "The browser refused; the command is selected, copy it with Ctrl+C");
}

// First the way that works in a frame as well, where browsers refuse the other.
async function toClipboard(text) {
  if (copySelection(text)) return true;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

function copySelection(text) {
  const back = document.activeElement;
  const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (back) back.focus();
  return done;
}

function change(name, before, after) {
  if (!isNumber(before) || !isNumber(after)) return el("td", {}, NOTHING);
  const difference = after - before;
  const good = difference * (BETTER[name] || 0);
  const text = (difference > 0 ? "+" : "") + shown(Number(difference.toPrecision(6)));
  return el("td", { class: good > 0 ? "good" : good < 0 ? "bad" : null }, text);
}

function figuresTable(member) {
  const names = [...new Set([...namesOf("in"), ...namesOf("out")])].filter((name) => name in member.in || name in member.out);
  const rows = names.map((name) => el("tr", {}, el("th", { scope: "row" }, label(name)), el("td", {}, shown(member.in[name])), el("td", {}, shown(member.out[name])), change(name, member.in[name], member.out[name])));
  const verdicts = Object.keys(member.verdict).map((name) => el("tr", {}, el("th", { scope: "row" }, label(name)), el("td", {}, ""), el("td", {}, shown(member.verdict[name])), el("td", {}, "")));
  return grid(["Figure", "In sample", "Out of sample", "Change"], [...rows, ...verdicts], "Figures in and out of sample");
}

function grid(heads, rows, name, id) {
  return el("div", { class: "wide" }, el("table", { "aria-label": name, id }, el("thead", {}, el("tr", {}, ...heads.map((head) => (head instanceof Node ? head : el("th", { scope: "col" }, head))))), el("tbody", {}, ...rows)));
}

function spansTable(member) {
  const names = namesOf("out").filter((name) => name in BETTER || name === "trades").filter((name) => member.spans.some((span) => present(span.figures[name])));
  const rows = member.spans.map((span) => el("tr", {}, el("th", { scope: "row" }, span.label), ...names.map((name) => el("td", {}, shown(span.figures[name])))));
  return grid(["Later span", ...names.map(label)], rows, "Figures of each later span");
}

function tradesOf(member) {
  const coded = member.trades;
  const entries = coded.lots.length ? times(coded.entry) : [];
  const later = member.later.values.length ? member.later.times.start : Infinity;
  return entries.map((entry, row) => ({
    entry, exit: entry + coded.held.steps[row] * coded.held.unit, side: coded.side.words[coded.side.rows[row]], lots: coded.lots[row],
    from: coded.entry_price[row], to: coded.exit_price[row], profit: coded.profit[row], reason: coded.exit_reason.words[coded.exit_reason.rows[row]],
    part: entry >= later ? "later" : "searched",
  }));
}

const decimalsOf = (values) => Math.min(Math.max(0, ...values.map((value) => (String(value).split(".")[1] || "").length)), 8);

function tradeRow(trade, decimals) {
  const price = (value) => (isNumber(value) ? value.toFixed(decimals) : NOTHING);
  const profit = el("td", { class: trade.profit > 0 ? "good" : trade.profit < 0 ? "bad" : null }, isNumber(trade.profit) ? grouped(trade.profit, 2) : NOTHING);
  const left = (text) => el("td", { class: "left" }, text);
  return el("tr", {}, left(moment(trade.entry)), left(moment(trade.exit)), left(trade.side), el("td", {}, shown(trade.lots)), profit,
    left(words(trade.reason)), el("td", {}, price(trade.from)), el("td", {}, price(trade.to)));
}

function drawTrades(member, node) {
  const all = tradesOf(member);
  const some = ledger.part === "all" ? all : all.filter((trade) => trade.part === ledger.part);
  const pages = Math.max(Math.ceil(some.length / TRADES_A_PAGE), 1);
  ledger.page = Math.min(Math.max(ledger.page, 0), pages - 1);
  const turn = (by) => () => { ledger.page += by; drawTrades(member, node); byId(by < 0 ? "earlier" : "newer").focus(); };
  const select_ = el("select", { "aria-label": "Part", onchange: (event) => { ledger.part = event.target.value; ledger.page = Infinity; drawTrades(member, node); } },
    ...["all", "searched", "later"].map((part) => el("option", { value: part, selected: part === ledger.part }, part)));
  const heads = ["Entry, UTC", "Exit, UTC", "Side", "Lots", "Profit", "Exit by", "Entry price", "Exit price"];
  const decimals = decimalsOf(all.flatMap((trade) => [trade.from, trade.to]).filter(isNumber));
  const rows = some.slice(ledger.page * TRADES_A_PAGE, (ledger.page + 1) * TRADES_A_PAGE).map((trade) => tradeRow(trade, decimals));
  const count = member.trades.total > all.length ? `the newest ${grouped(all.length, 0)} of ${grouped(member.trades.total, 0)}` : grouped(all.length, 0);
  node.replaceChildren(el("h2", {}, "Trades ", el("small", { id: "trades-count" }, count)),
    rows.length ? grid(heads.map((head, place) => el("th", { scope: "col", class: [1, 2, 5].includes(place) ? "left" : null }, head)), rows, "Trades", "trades-table") : el("p", { class: "hint" }, "None."),
    el("div", { class: "pager" }, select_, el("button", { type: "button", id: "earlier", disabled: ledger.page === 0, onclick: turn(-1) }, "◀ earlier"), `page ${ledger.page + 1} of ${pages}`, el("button", { type: "button", id: "newer", disabled: ledger.page >= pages - 1, onclick: turn(1) }, "newer ▶")));
}

function invitation() {
  const named = members.filter((member) => picksOf.get(member.hash).length);
  const buttons = named.map((member) => el("button", { type: "button", onclick: () => select(member.hash) }, `★ ${picksOf.get(member.hash).join(", ")}`));
  return el("div", { class: "blank" }, el("p", {}, "Select a member in the plot or the table to see its account, figures, settings and trades, and the command that deploys it."), el("p", { class: "starts" }, ...buttons));
}

function drawMember() {
  const node = byId("member");
  const member = byHash.get(state.selected);
  if (!member) {
    node.replaceChildren(invitation());
    return;
  }
  if (ledger.hash !== member.hash) Object.assign(ledger, { hash: member.hash, page: Infinity, part: "all" });
  const compared = state.compared.includes(member.hash);
  const plot = el("div", { class: "plot", id: "equity", role: "img", "aria-label": `Equity and drawdown of ${member.hash}` });
  plot.style.height = "20rem";
  const trades = el("div", { id: "trades-box" });
  const settings = Object.entries(member.parameters).map(([name, value]) => el("div", {}, el("dt", {}, words(name)), el("dd", {}, shown(value))));
  const hasCurve = member.searched.values.length || member.later.values.length;
  node.replaceChildren(
    el("div", { class: "title" }, el("span", { class: "hash" }, member.hash), ...badges(member), el("button", { type: "button", id: "compare-this", "aria-pressed": String(compared), onclick: () => toggleCompared(member.hash) }, compared ? "In comparison ✓" : "Compare")),
    commandBox(member), hasCurve ? plot : el("p", { class: "blank" }, "Its equity was not kept."),
    el("h2", {}, "Figures"), figuresTable(member),
    ...(member.spans.length ? [el("h2", {}, "Later spans, one by one"), spansTable(member)] : []),
    el("h2", {}, "Settings"), el("dl", { class: "parameters" }, ...settings), trades);
  if (hasCurve) drawAccount(plot, member);
  drawTrades(member, trades);
}
