// The grid in the page: draws a column, turns clicks and keys into decisions on it.
// Names only ever become text; every listener sits on a node inside `element`, or goes when `element` goes.

const TICK_MS = 2_000;
const STEP = 0.01;
const [FIRST, LAST] = [5, 5]; // photos that are shown of those to be confirmed together
const root = named("grid");
const [slider, save, undo, redo, confirmAll, news] = ["threshold", "save", "undo", "redo", "confirm-all", "news"].map((name) => named(`grid-${name}`));
const [reset, chosen, cover] = [".reset", ".chosen", ".cover"].map(find);
const [status, sure] = [named("grid-status"), named("grid-sure")];
const photos = (count) => tr.many(count, "{count} photo", "{count} photos");
const decisions = (count) => tr.many(count, "{count} decision", "{count} decisions");

// Decisions outlive the panel's node: gradio makes it anew whenever it likes.
const memory = (globalThis.tagloopGrid ??= new Map());

let column; // the label that is shown; undefined while there is none
let value = {}; // what was pushed of it last
let selection = new Set(); // indexes
let anchor = 0; // where a selection began
let announcement;
let isSeen = false;

const chosenLabel = () => column?.label ?? "";
const focusGrid = () => (tileAt(at) ?? root).focus({ preventScroll: true });
const unsaved = () => [...memory.values()].reduce((sum, { pending }) => sum + pending.size, 0);

function decidedOf(album, label) {
  const key = `${album}\n${label}`;
  if (!memory.has(key)) memory.set(key, new Decided(album, label));
  return memory.get(key);
}

// Drawing

function show(view, what = "", why = "") {
  sure.close(); // it asked about what was there before
  root.dataset.view = view;
  root.ariaBusy = view === "busy";
  cover.firstChild.textContent = what;
  cover.lastChild.textContent = why;
  labelField.disabled = view !== "ready" && !column;
  slider.disabled = reset.disabled = view !== "ready" || !column?.isKnown;
}

function say(state, text) {
  if (status.dataset.state === state && status.textContent === text) return;
  status.dataset.state = state;
  status.textContent = text;
}

function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => (find(".announcer").textContent = text), 500);
}

function draw() {
  if (!column) return;
  drawTiles();
  drawNumbers();
  drawButtons();
}

function drawNumbers({ tagged = value.tagged, is_running = value.is_running } = {}) {
  const { active, candidates, untagged, confirmed, rejected } = column.totals;
  const busy = is_running
    ? tr("{count} of {total} tagged so far", { count: tagged, total: value.of })
    : untagged && column.isKnown && tr("{count} not tagged yet", { count: untagged });
  const parts = column.isKnown
    ? [tr("{count} active", { count: active }), tr("{count} candidates", { count: candidates })]
    : [tr("The model has no such label"), photos(column.length)];
  parts.push(tr("{count} confirmed", { count: confirmed }), tr("{count} rejected", { count: rejected }));
  if (busy) parts.push(busy);
  if (value.unreadable) parts.push(tr("{count} cannot be read", { count: value.unreadable }));
  const numbers = find(".numbers");
  while (numbers.children.length < parts.length) numbers.append(make("span"));
  [...numbers.children].forEach((node, i) => (node.textContent = parts[i] ?? ""));
  find(".value").value = column.isKnown ? column.threshold.toFixed(3) : "";
  slider.style.setProperty("--at", column.threshold);
}

function drawButtons() {
  if (!column) return;
  const [count, { open }] = [unsaved(), column.totals];
  const here = column.decided.pending.size;
  save.disabled = !count || asking?.name === "save";
  save.textContent = count ? tr.many(count, "Save {count} decision", "Save {count} decisions") : tr("Save");
  save.title = count > here ? tr("{count} of them on other labels or photos", { count: count - here }) : "";
  undo.disabled = !column.decided.done.length;
  redo.disabled = !column.decided.undone.length;
  reset.disabled = !column.isKnown || column.threshold === column.recommended;
  confirmAll.disabled = !open;
  confirmAll.textContent = open ? tr("Confirm the {count} above the line", { count: open }) : tr("Nothing left above the line");
  confirmAll.hidden = selection.size > 0 || !column.isKnown;
  chosen.hidden = !selection.size;
  chosen.firstElementChild.textContent = tr("{count} selected", { count: selection.size });
  if (document.activeElement?.disabled && root.contains(document.activeElement)) focusGrid();
}

// Deciding

/** After anything a person did: draw it, and say how much is not saved. */
function changed(text) {
  draw();
  say("", "");
  const count = unsaved();
  const left = count ? tr.many(count, "{count} decision not saved", "{count} decisions not saved") : tr("Nothing left to save");
  announce(tr("{what}. {left}", { what: text, left }));
}

const DECIDED = {
  [NONE]: (what) => tr("No decision on {what}", { what }),
  [CONFIRMED]: (what) => tr("Confirmed {what}", { what }),
  [REJECTED]: (what) => tr("Rejected {what}", { what }),
};

function decide(indexes, mark) {
  const made = column.decide(indexes, mark);
  const text = indexes.length === 1 ? column.names[indexes[0]] : photos(made);
  changed(made ? DECIDED[mark](text) : tr("Nothing changed"));
}

/** On the selection where there is one, else on the tile with the focus, and then on to the next. */
function sweep(mark) {
  if (selection.size) return decideSelection(mark);
  decide([at], mark);
  if (at + 1 < column.length) goTo(at + 1);
}

function decideSelection(mark) {
  const indexes = [...selection];
  unselect();
  decide(indexes, mark);
  focusGrid();
}

function flip(i) {
  column.flip(i);
  changed(tileAt(i)?.ariaLabel ?? "");
  announce(tileAt(i)?.ariaLabel ?? "");
}

function step(move) {
  const changes = column[move]();
  const first = column.indexes.get(changes[0].place);
  if (first !== undefined && changes.length === 1) goTo(first, document.activeElement?.matches(".tile"));
  const what = { what: decisions(changes.length) };
  changed(move === "undo" ? tr("Undone: {what}", what) : tr("Done again: {what}", what));
}

function select(to) {
  const [from, until] = [Math.min(anchor, to), Math.max(anchor, to)];
  selection = new Set(Array.from({ length: until - from + 1 }, (_, i) => from + i).filter((i) => column.isOpen(i)));
  draw();
  announce(tr.many(selection.size, "{count} photo selected", "{count} photos selected"));
}

function unselect() {
  if (!selection.size) return;
  selection = new Set();
  draw();
}

/** Ask before all undecided photos above the line are confirmed, most of which may be out of sight. */
function confirmOpen() {
  const { open, label } = column;
  if (!open.length) return;
  const shown = (i) => make("li", {}, make("img", { src: pictureOf(i), alt: column.names[i] }), scoreOf(i));
  const between = open.length - FIRST - LAST;
  const items = between > 0 ? [...open.slice(0, FIRST).map(shown), make("li", { className: "between", textContent: tr.many(between, "… {count} photo between …", "… {count} photos between …") }), ...open.slice(-LAST).map(shown)] : open.map(shown);
  sure.querySelector("h3").textContent = tr.many(open.length, "Confirm “{label}” on {count} photo?", "Confirm “{label}” on {count} photos?", { label });
  sure.querySelector("p").textContent = tr("Undecided photos from {high} down to {low}. Undo takes them back in one step.", { high: scoreOf(open[0]), low: scoreOf(open.at(-1)) });
  sure.querySelector("ol").replaceChildren(...items);
  sure.showModal();
  named("grid-sure-yes").focus();
}

function confirmed() {
  sure.close();
  decide(column.open, CONFIRMED);
  focusGrid();
}

// The line

function slide() {
  column.cut(Number(slider.value));
  followLine(); // first, since it asks for the layout
  drawRows();
  drawTiles();
  drawLine();
  drawNumbers();
}

function settleLine() {
  drawButtons();
  announce(tr("{photos} active at {threshold}", { photos: photos(column.line), threshold: column.threshold.toFixed(3) }));
}

function moveLine(threshold) {
  if (slider.disabled) return;
  slider.value = threshold;
  slide();
  settleLine();
}

// Clicks

rail.addEventListener("click", (event) => {
  const node = event.target.closest(".tile");
  if (!node || root.dataset.view !== "ready") return;
  const i = Number(node.dataset.index);
  if (event.shiftKey) {
    if (!selection.size) anchor = at;
    goTo(i);
    return select(i);
  }
  unselect();
  goTo(i);
  anchor = i;
  flip(i);
});
rail.addEventListener("mousedown", (event) => event.shiftKey && event.preventDefault());
rail.addEventListener("focusin", ({ target }) => {
  if (!target.matches(".tile") || Number(target.dataset.index) === at) return;
  at = Number(target.dataset.index);
  drawTiles();
});
root.addEventListener("keydown", key);
slider.addEventListener("input", slide);
slider.addEventListener("change", settleLine);
reset.addEventListener("click", () => moveLine(column.recommended));
undo.addEventListener("click", () => step("undo"));
redo.addEventListener("click", () => step("redo"));
confirmAll.addEventListener("click", confirmOpen);
named("grid-sure-yes").addEventListener("click", confirmed);
named("grid-sure-no").addEventListener("click", () => sure.close());
sure.addEventListener("click", (event) => event.target === sure && sure.close()); // beside it
sure.addEventListener("keydown", (event) => event.stopPropagation()); // the grid's keys rest
named("grid-confirm").addEventListener("click", () => decideSelection(CONFIRMED));
named("grid-reject").addEventListener("click", () => decideSelection(REJECTED));
named("grid-clear").addEventListener("click", () => decideSelection(NONE));
named("grid-unselect").addEventListener("click", () => {
  unselect();
  focusGrid();
});
save.addEventListener("click", saveAll);
news.addEventListener("click", () => {
  news.hidden = true;
  look();
});
new ResizeObserver(layOut).observe(scroller);
new IntersectionObserver(([{ isIntersecting }]) => {
  if (isIntersecting && !isSeen) look();
  isSeen = isIntersecting;
}).observe(root);
const ticking = setInterval(() => {
  if (!element.isConnected) return clearInterval(ticking);
  if (isSeen && !document.hidden && value.is_running && !asking) ask("tick");
}, TICK_MS);
const leaving = new AbortController();
addEventListener(
  "beforeunload",
  (event) => {
    if (!element.isConnected) leaving.abort();
    else if (unsaved()) event.preventDefault();
  },
  { signal: leaving.signal },
);
tellKeys();
drawing(take);
