// What the grid asks the server, one request at a time, and what becomes of the answers.
// Uses `column`, `value` and the drawing of grid.js, which follows.

const PATIENCE_MS = 90_000;
let asking; // the request under way: { id, name, sent }
const waiting = new Map(); // by name those to send next: the latest of each
let asked = 0;
let isPicked = false; // the label, by the person; else it is the one with the most to do

function ask(name, data = {}, sent = undefined) {
  if (asking) {
    waiting.set(name, [name, data, sent]);
    return;
  }
  asking = { id: ++asked, name, sent };
  wait();
  trigger(name, { ask: asking.id, ...data });
}

function wait() {
  clearTimeout(asking.timer);
  asking.timer = setTimeout(() => answered() && say("error", tr("The server did not answer. Try again.")), PATIENCE_MS);
}

/** The request is done; the next one may go. */
function answered() {
  const [before, next] = [asking, waiting.values().next().value];
  if (before) clearTimeout(before.timer);
  asking = undefined;
  if (next) {
    waiting.delete(next[0]);
    ask(...next);
  }
  drawButtons();
  return before;
}

function choose(label) {
  isPicked = true;
  labelField.value = label;
  show("busy", "", "");
  ask("choose", { label });
  root.focus();
}

function look() {
  if (!column) show("busy", tr("Looking at the photos…"), "");
  ask("look", { label: isPicked || value.tagged ? chosenLabel() : "" });
}

function saveAll() {
  if (asking?.name === "save" || waiting.has("save") || !unsaved()) return;
  const sent = [...memory.values()].filter(({ pending }) => pending.size);
  const copies = sent.map((decided) => [decided, new Map(decided.pending)]);
  say("saving", tr.many(unsaved(), "Saving {count} decision…", "Saving {count} decisions…"));
  ask("save", { parts: sent.map(({ part }) => part) }, copies);
  drawButtons();
}

/** Take what the server says: the answer to what was asked, or that another model is in use. */
function take(pushed) {
  if (pushed.kind === "stale") {
    if (asking?.name === "save") say("", "");
    answered();
    if (isSeen) look(); // who comes back to the tab looks anyway
    return;
  }
  if (pushed.ask !== asking?.id) return;
  if (pushed.kind === "saving") {
    wait();
    return say("saving", tr("Saving… {count} done", { count: pushed.done }));
  }
  const { name, sent } = answered();
  if (pushed.names) takeLabels(pushed.names, pushed.to_do);
  if (pushed.kind === "column") takeColumn(pushed);
  else if (pushed.kind === "empty") takeNothing(tr("No photos yet."), tr("Bring some on the Tag tab: they are tagged there and appear here."));
  else if (pushed.kind === "error" && !column) takeNothing(tr("The photos cannot be shown."), told(pushed.text));
  else if (pushed.kind === "error") {
    show("ready");
    say("error", told(pushed.text));
  } else if (pushed.kind === "progress") takeProgress(pushed);
  else if (name === "save") takeSaved(pushed, sent);
}

function takeNothing(what, why) {
  column = undefined;
  clearRows();
  show("empty", what, why);
}

function takeColumn(pushed) {
  const [before, isInside] = [column, root.contains(document.activeElement) && document.activeElement !== labelField];
  const isSame = before?.label === pushed.label && before.album === pushed.album;
  const place = isSame ? before.places[at] : undefined;
  value = pushed;
  column = new Column(pushed, decidedOf(pushed.album, pushed.label));
  column.album = pushed.album;
  selection = new Set();
  at = column.indexes.get(place) ?? 0;
  labelField.value = column.label;
  slider.value = column.threshold;
  news.hidden = true;
  show("ready");
  if (!isSame) scroller.scrollTop = 0;
  layOut();
  draw();
  if (isSame && column.length) goTo(at, false);
  if (isInside) focusGrid();
  if (column.stale.length) say("error", tr("{names}: the file was replaced, so what you decided on it is gone.", { names: column.stale.join(", ") }));
  else if (!isSame) say("", "");
  if (pushed.problem) say("error", tr("The model could not go on: {why}", { why: pushed.problem }));
}

function takeProgress(pushed) {
  const more = pushed.tagged - value.tagged;
  if (more > 0 && !value.tagged) return look(); // nothing was there to decide on
  value = { ...value, is_running: pushed.is_running };
  news.hidden = more <= 0;
  news.textContent = tr("Show {count} new", { count: more });
  drawNumbers(pushed);
}

/** What was sent is saved, but for places that are not among those tried; what was decided since stays. */
function takeSaved({ tried, state, text }, sent) {
  for (const [decided, decisions] of sent) {
    const places = new Set(tried[decided.album]);
    const settled = [...decisions].filter(([place]) => places.has(place)).map(([place, { mark }]) => [place, mark]);
    for (const [place, mark] of settled) if (decided.pending.get(place)?.mark === mark) decided.pending.delete(place);
    if (settled.length) decided.done = decided.undone = [];
    if (decided === column?.decided) column.settle(settled);
  }
  draw();
  say(state, told(text));
  if (state === "error") look(); // what was replaced is drawn as it is now
}
