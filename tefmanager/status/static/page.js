"use strict";
// Shows the overviews of /api/stream, one a second. Text from elsewhere is inserted as text, never as HTML.

const $ = (id) => document.getElementById(id);
const LOUD = {good: "good", warn: "warn", error: "bad", critical: "bad"};
const EMPTY = "\0"; // key of the row of an empty table; no name contains this character
const MOST_SUITES = 10; // named with their waiting tasks
const STATUS = {idle: "good", missing: "bad", stalled: "bad"};
let canAct = false;

function span(seconds) {
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}

/** Escape invisible characters, and those that change the direction of text, as the log does. */
function plain(text) {
  return String(text ?? "").replace(/[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
    (found) => `\\u${found.codePointAt(0).toString(16).padStart(4, "0")}`);
}

function put(id, raw, kind) {
  const place = $(id), text = plain(raw);
  if (place.textContent !== text) place.textContent = text;
  if (kind !== undefined) place.className = kind;
}

function element(name, text, kind) {
  const made = document.createElement(name);
  if (text) made.textContent = plain(text);
  if (kind) made.className = kind;
  return made;
}

/** Update a table's rows to match items. Existing rows are reused, so they keep the focus and the pointer. */
function rows(id, items, key, fill, empty) {
  const body = $(id), heads = body.closest("table").tHead.rows[0].cells;
  const old = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    const row = old.get(String(key(item))) ?? element("tr");
    row.dataset.key = key(item);
    fill(row, item);
    row.role = "row";
    [...row.cells].forEach((cell, index) => {
      cell.role = "cell";
      cell.dataset.head = heads[index].textContent; // shown on a phone
    });
    return row;
  });
  if (!wanted.length) {
    const row = old.get(EMPTY) ?? element("tr");
    row.dataset.key = EMPTY;
    cells(row, [empty, "soft"]);
    row.cells[0].colSpan = 9;
    wanted.push(row);
  }
  if (wanted.length !== body.rows.length || wanted.some((row, index) => row !== body.rows[index])) {
    body.replaceChildren(...wanted);
  }
}

/** Fill a row's cells: a text, a [text, class], or a function that fills the cell by itself. */
function cells(row, ...values) {
  values.forEach((value, index) => {
    const cell = row.cells[index] ?? row.insertCell();
    if (typeof value === "function") { value(cell); return; }
    const [raw, kind] = Array.isArray(value) ? value : [value, ""];
    const text = plain(raw);
    if (cell.textContent !== text) cell.textContent = text;
    cell.className = kind;
  });
}

// --- what is shown ---

function showState(all) {
  const {readiness, status} = all;
  const kind = !readiness.ready ? "bad" : status && status.state !== "running" ? "warn" : "good";
  put("state", status ? status.state : readiness.role, `badge ${kind}`);
  put("since", status ? `for ${span(all.time - (status.state_since ?? status.active_since))}` : "");
  put("version", readiness.version);
  document.title = `${status ? `${status.waiting.total} waiting, ${status.state}` : readiness.role} – tef-manager`;
  const since = (each) => new Date(each.since * 1000).toLocaleString();
  const away = readiness.outages.filter((each) => each.service !== "standby").map((each) =>
    `${[each.service, each.about].filter(Boolean).join(" ")}: ${each.cause}, since ${since(each)}: ${each.meaning}`);
  const held = (status?.held_back ?? []).map((each) => `Held back: ${each.what}: ${each.reason}`);
  const text = [...away, ...held];
  if ($("missing").dataset.text !== text.join("\n")) {
    $("missing").dataset.text = text.join("\n");
    $("missing").replaceChildren(...(text.length ? [element("h2", "Current problems")] : []), ...text.map((line) => element("p", line)));
  }
  for (const button of document.querySelectorAll("[data-state]")) {
    button.setAttribute("aria-pressed", String(status?.state === button.dataset.state));
  }
}

function showNow(all) {
  const status = all.status;
  if (!status) {
    for (const name of ["waiting", "oldest", "working", "dispatched", "idle", "lost", "dead"]) put(`n-${name}`, "–", "");
    return;
  }
  const lost = status.workers.missing + status.workers.stalled;
  put("n-waiting", String(status.waiting.total));
  put("n-oldest", status.waiting.oldest === null ? "–" : span(all.time - status.waiting.oldest));
  put("n-working", String(status.working));
  put("n-dispatched", String(status.dispatched));
  put("n-idle", String(status.workers.idle));
  put("n-lost", String(lost), lost ? "bad" : "");
  put("n-dead", all.dead ? String(all.dead.total) : "–", all.dead?.total ? "bad" : "");
}

function showHour(all) {
  const end = Math.floor(all.time / 60) * 60 + 60, slots = 60;
  const minutes = Array.from({length: slots}, () => ({accepted: 0, dispatched: 0, completed: 0, waited: 0, longest: null}));
  for (const sample of all.rates.samples) {
    const minute = minutes[slots - 1 - Math.floor((end - 1 - sample.time) / 60)];
    if (!minute) continue;
    for (const name of ["accepted", "dispatched", "completed"]) minute[name] += sample[name];
    if (sample.waited !== null) {
      minute.waited += sample.waited * sample.dispatched;
      minute.longest = Math.max(minute.longest ?? 0, sample.longest);
    }
  }
  const of = (name) => minutes.map((minute) => minute[name]);
  plot($("plot-rates"), "Tasks per minute in the last hour", end, [
    {name: "accepted", kind: "b", points: of("accepted")},
    {name: "dispatched", kind: "a", points: of("dispatched")},
    {name: "completed", kind: "c", points: of("completed")},
  ]);
  plot($("plot-waits"), "Seconds from acceptance to dispatch in the last hour", end, [
    {name: "longest", kind: "b", points: of("longest")},
    {name: "mean", kind: "a", points: minutes.map((each) => each.dispatched && each.longest !== null ? each.waited / each.dispatched : null)},
  ]);
}

function list(items, most, text) {
  const more = items.length - most;
  return items.slice(0, most).map(text).join(", ") + (more > 0 ? `, and ${more} more` : "");
}

/** Return the text of an empty table. If the value is null, only the active manager knows it. */
function none(found) {
  return found ? "None." : "Only the active manager knows this.";
}

/** Return how many there are, and how many of them are shown. */
function count(found, shown) {
  if (!found || !found.total) return "";
  return found.total > shown.length ? `${shown.length} of ${found.total}` : String(found.total);
}

function showResources(all) {
  const found = all.resources;
  put("c-resources", count(found, found?.resources));
  rows("t-resources", found?.resources ?? [], (each) => each.name, (row, each) => {
    const limit = each.limit < 0 ? "no limit" : each.limit === 0 ? "closed" : each.limit;
    const text = each.limit > 0 ? `${each.held} of ${limit}` : `${each.held}, ${limit}`;
    const by = list(each.holders, 5, (one) => one.guid ? `${one.guid} at ${one.worker}${one.since ? ` for ${span(all.time - one.since)}` : ""}` : "being released");
    const others = each.others ? `${by ? ", " : ""}${each.others} by other programs` : "";
    cells(row, [each.name, each.faults.length ? "bad" : ""], (cell) => {
      if (cell.dataset.text === text) return;
      cell.dataset.text = text;
      cell.replaceChildren(bar(each.held, each.limit), text);
    }, by + others, list(each.waiters, 3, (one) => `${one.guid} for ${span(all.time - one.since)}`) || (each.waiting ? `tasks of ${each.waiting} kind${each.waiting === 1 ? "" : "s"}` : ""));
  }, none(found));
}

function showWorkers(all) {
  const found = all.workers;
  put("c-workers", count(found, found?.workers));
  rows("t-workers", found?.workers ?? [], (each) => each.name, (row, each) => {
    cells(row, each.name, each.worker_type, [each.status, STATUS[each.status] ?? ""], each.task ?? (each.booked ? `${each.booked} (soon)` : ""),
      span(all.time - each.since), `${span(each.silent)} ago`);
  }, none(found));
}

function showSuites(all) {
  const found = all.suites;
  put("c-suites", count(found, found?.suites));
  rows("t-suites", found?.suites ?? [], (each) => each.suite, (row, each) => {
    cells(row, each.suite, each.waiting, each.dispatched, each.working, (cell) => fillSuite(cell, each));
  }, none(found));
}

function fillSuite(cell, each) {
  const actions = [each.paused ? ["ready", "Resume"] : ["pause", "Pause"], ["stop", "Remove waiting tasks"]];
  buttons(cell, `${each.paused} ${canAct}`, each.paused ? "paused " : "", canAct ? actions : [], `suite ${each.suite}`, (action) => actOnSuite(each.suite, action));
}

/** Fill a cell with a text and buttons, unless it already shows this state; so the focus is kept. */
function buttons(cell, state, text, actions, what, act) {
  if (cell.dataset.text === state) return;
  const focused = [...cell.querySelectorAll("button")].indexOf(document.activeElement);
  cell.dataset.text = state;
  cell.replaceChildren(element("span", text, "warn"));
  if (!actions.length) return;
  const group = element("span", "", "buttons");
  for (const [action, label] of actions) {
    const button = element("button", label);
    button.type = "button";
    button.dataset.action = action;
    button.setAttribute("aria-label", `${label}: ${what}`);
    button.addEventListener("click", () => act(action));
    group.append(button);
  }
  cell.append(group);
  if (focused >= 0) group.children[focused].focus();
}

function showDead(all) {
  const found = all.dead;
  put("c-dead", count(found, found?.tasks));
  rows("t-dead", found?.tasks ?? [], (each) => each.guid, (row, each) => {
    const last = each.worker === null ? "" : `${each.end} at ${each.worker}`;
    cells(row, each.guid, each.task_type, each.suite ?? "", each.attempts, last, `${span(all.time - each.died)} ago`, (cell) => fillDead(cell, each));
  }, none(found));
}

function fillDead(cell, each) {
  buttons(cell, String(canAct), "", canAct ? [["retry", "Retry"], ["drop", "Drop"]] : [], `task ${each.guid}`, (action) => actOnDead(each.guid, action));
}

function showWaiting(all) {
  const waiting = all.status?.waiting, empty = waiting ? "No tasks are waiting." : none(waiting);
  const pairs = (found) => Object.entries(found ?? {});
  rows("t-types", pairs(waiting?.by_type), ([name]) => name, (row, pair) => cells(row, ...pair), empty);
  const suites = pairs(waiting?.by_suite).sort((a, b) => b[1] - a[1]).slice(0, MOST_SUITES);
  put("c-in-suites", waiting && waiting.suites > suites.length ? `${suites.length} of ${waiting.suites}` : "");
  rows("t-in-suites", suites, ([name]) => name, (row, [name, tasks]) => cells(row, name ? name : ["none", "soft"], tasks), empty);
  const priorities = pairs(waiting?.by_priority).sort((a, b) => b[0] - a[0]);
  rows("t-priorities", priorities, ([name]) => name, (row, pair) => cells(row, ...pair), empty);
}

function showEvents(all) {
  rows("t-events", all.events.events, (each) => `${each.time} ${each.text}`, (row, each) => {
    cells(row, new Date(each.time * 1000).toTimeString().slice(0, 8), [each.level, LOUD[each.level] ?? "soft"], each.text);
  }, "No events yet.");
}

function show(all) {
  canAct = all.actions && all.status !== null;
  $("actions").hidden = !canAct;
  for (const part of [showState, showNow, showHour, showResources, showWorkers, showSuites, showDead, showWaiting, showEvents]) part(all);
}

// --- actions ---

async function act(path, body, what) {
  const token = $("token").value;
  if (!token) {
    put("done", "Enter the token first.", "bad");
    $("token").focus();
    return;
  }
  try {
    const answer = await fetch(path, {method: "POST", body: JSON.stringify(body), headers: {Authorization: `Bearer ${token}`}});
    if (answer.ok) put("done", `${what}: done.`, "");
    else put("done", `${what}: ${(await answer.json()).error}`, "bad");
  } catch (error) {
    put("done", `${what}: ${error.message}`, "bad");
  }
}

function actOnSuite(suite, action) {
  if (action === "stop" && !confirm(plain(`Remove all waiting tasks of suite ${suite}?`))) return;
  act(`api/suites/${action}`, {suite}, `Suite ${suite}`); // not in the path: browsers remove ".." from it
}

function actOnDead(guid, action) {
  if (action === "drop" && !confirm(plain(`Drop the dead task ${guid}?`))) return;
  act(`api/dead/${action}`, {guid}, `Task ${guid}`);
}

$("token-form").addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("[data-state]")) {
  button.addEventListener("click", () => act("api/state", {state: button.dataset.state}, button.textContent));
}

// --- the stream ---

const stream = new EventSource("api/stream");
stream.addEventListener("message", (event) => {
  put("link", "live", "");
  show(JSON.parse(event.data));
});
stream.addEventListener("error", () => {
  put("link", "no connection to the manager: the data is out of date", "bad");
});
