// The tag editor in the page: draws `Tags` and turns clicks and keys into decisions.
// Names only ever become text; every listener but `guard`'s sits on a node inside `element` and goes when it goes.

const find = (selector) => element.querySelector(selector);
const named = (name) => find(`[data-testid="${name}"]`);
const root = named("tag-editor");
const [slider, field, undo, redo, save, reviewAll] = ["threshold", "add-label", "undo", "redo", "save", "review-all"].map(named);
const [box, list, reset, stage] = [".groups", ".add ul", ".reset", ".stage"].map(find);
const tunedSwitch = find(".tuned input");
const [figures, source, plot, take, cutOut, plotSwitch] = [".curve", ".source", ".plot", ".take", ".mcut", ".plotted"].map(find);
const sources = { validation: find(".validation"), own: find(".own") };
const pulse = find(".bones").animate({ opacity: [1, 0.45, 1] }, { duration: 1800, iterations: Infinity });
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let value; // what Python pushed last
let tags; // its Tags; undefined while there is no image
let totals; // of all groups, as they are shown
let roving; // the one chip that Tab reaches
let announcement;
let arrival = ""; // of the image that has come and was not told of yet, its place and name
let afterSave; // what to do once the save that is under way is acknowledged
let settled; // of the open image: what is saved, or what it came with
const seen = new Set(); // revisions of what was pushed

/** Images with decisions that are not saved, by sha256 these and what is saved; the browser asks before it drops them. */
function guard() {
  const images = new Map(); // outlives the node, which gradio makes anew whenever it likes
  addEventListener("beforeunload", (event) => images.size && event.preventDefault());
  return images;
}

const unsaved = (globalThis.tagloopUnsaved ??= guard());
const digestOf = ({ key }) => key.split(":")[0];
const said = ({ confirmed, rejected }) => JSON.stringify([[...confirmed].sort(), [...rejected].sort()]);

const text = (number) => number.toFixed(3);
const isRange = (node) => node.type === "range";

const allChips = () => [...box.querySelectorAll(".chip")];

/** Bring the page in line with the sliders and the decisions, touching only chips that differ. */
function draw(moving) {
  tags.view(moving);
  totals = tags.totals;
  const focused = box.contains(document.activeElement) && document.activeElement;
  const all = focused ? allChips() : [];
  sections.forEach(drawSection);
  number();
  const { unseen, lower } = totals;
  find(".rest").textContent = unseen
    ? tr("{count} more active labels are counted but not shown.", { count: unseen })
    : lower > 0
      ? tr("{count} more labels score lower.", { count: lower })
      : "";
  if (!roving?.isConnected) rove(allChips()[0]);
  if (focused && focused !== document.activeElement) {
    const before = all.slice(0, all.indexOf(focused));
    (focused.isConnected ? focused : (before.findLast((chip) => chip.isConnected) ?? root)).focus();
  }
  drawNumbers();
}

function drawNumbers() {
  const { threshold, recommended } = tags;
  named("active-count").value = totals.count;
  find(".value").value = text(threshold);
  find(".cut").style.setProperty("--at", threshold);
  reset.disabled = threshold === recommended && !tags.isSplit;
  undo.disabled = tags.done.length === 0;
  redo.disabled = tags.undone.length === 0;
  holdFocus();
  drawFigures();
  const [shift, own] = [threshold - recommended, value.tuned_labels];
  const by = tags.tuned && shift ? `, ${shift > 0 ? "+" : "−"}${text(Math.abs(shift))}` : "";
  find(".tuned span").textContent = tags.tuned
    ? tr.many(own, "Tuned thresholds in use for {count} label", "Tuned thresholds in use for {count} labels") + by
    : tr.many(own, "Tuned for {count} label", "Tuned for {count} labels");
  announce();
}

const SPOKEN = { active: tr("active"), candidate: tr("not active"), confirmed: tr("confirmed"), rejected: tr("rejected") };

/** Say how many labels are active once the hand rests; before that which image has come, or what became of a label without the focus. */
function announce(name) {
  clearTimeout(announcement);
  const count = tr("{count} labels active", { count: totals.count });
  const about = name === undefined ? "" : `${tr("{label} {state}.", { label: name, state: SPOKEN[tags.state(name)] })} `;
  announcement = setTimeout(() => {
    find(".announcer").textContent = arrival + about + count;
    arrival = "";
  }, 600);
}

/** A control that was just disabled would drop the focus, and the keys with it. */
function holdFocus() {
  const focused = document.activeElement;
  if (focused.disabled && root.contains(focused)) root.focus();
}

function rove(chip) {
  if (roving) roving.tabIndex = -1;
  roving = chip;
  if (chip) chip.tabIndex = 0;
}

function say({ state, text }) {
  const status = named("status");
  if (status.dataset.state === state && status.textContent === text) return;
  status.dataset.state = state;
  status.textContent = text;
}

/** Put what a person did into the component's value: all that outlives a remount, and what events send. */
function keep(reviewed = "listed") {
  const [confirmed, rejected] = [tags.decided("confirmed"), tags.decided("rejected")];
  const levels = tags.groups.slice(0, value.categories.length).map(({ level }) => level);
  value = { ...value, slider: tags.threshold, levels, tuned: tags.tuned, confirmed, rejected, reviewed, choices };
  props.value = value;
  compare();
}

function compare() {
  const now = said(value);
  if (now === settled) unsaved.delete(digestOf(value));
  else unsaved.set(digestOf(value), { now, settled });
}

/** Decisions are saved, maybe of an image that was left meanwhile, or with others made since. */
function acknowledged(saved) {
  const [digest, now] = [digestOf(saved), said(saved)];
  const left = unsaved.get(digest);
  if (value && digestOf(value) === digest) {
    settled = now;
    compare();
  } else if (left?.now === now) {
    unsaved.delete(digest);
  } else if (left) {
    left.settled = now;
  }
}

function show(what) {
  root.dataset.view = what;
  root.ariaBusy = what === "busy";
  const idle = what !== "ready";
  for (const control of [slider, field, save, reviewAll, tunedSwitch, cutOut]) control.disabled = idle;
  if (idle) for (const control of [undo, redo, reset, take]) control.disabled = true;
  holdFocus();
  if (what === "busy" && !calm.matches) pulse.play();
  else pulse.cancel();
}

/** Take what Python pushed: an image, a message about it, or nothing. */
function load() {
  const pushed = props.value || { clear: true };
  if (seen.has(pushed.revision)) {
    props.value = value ?? null; // what an event said comes once more when it has ended, without what was decided since
    return;
  }
  if (pushed.revision) seen.add(pushed.revision);
  const inside = root.contains(document.activeElement);
  if (tags && (pushed.scores !== undefined || pushed.clear)) remember();
  if (pushed.scores !== undefined) {
    value = pushed;
    arrival = toldOf(value);
    tags = new Tags(value);
    settled = unsaved.get(digestOf(value))?.settled ?? said(value);
    choices = value.choices ?? choices; // Python knows none: they are this page's from before
    slider.value = value.slider;
    tunedSwitch.checked = value.tuned;
    if (choices.mcut) cutAtWidestGap();
    if (!value.choices) keep();
    find(".tuned").hidden = !value.thresholds;
    root.style.setProperty("--recommended", value.threshold);
  } else if (pushed.clear) {
    value = tags = undefined;
    named("active-count").value = 0;
  } else if (value) {
    value = { ...value, revision: pushed.revision };
    props.value = value;
  }
  const { state = "" } = pushed;
  const text = told(pushed.text);
  const then = state === "saved" ? afterSave : undefined;
  if (pushed.saved) acknowledged(pushed.saved);
  if (state !== "busy" && (afterSave || pushed.turn === turn)) hold(false);
  if (state !== "busy") afterSave = undefined;
  if (pushed.scores !== undefined || pushed.clear) {
    makeSections();
    roving = undefined;
    closeList();
    field.value = "";
  }
  show(state === "busy" ? "busy" : tags ? "ready" : state === "done" ? "done" : "empty");
  lookAtPicture();
  if (tags) drawCurve();
  if (tags) draw();
  say({ state, text });
  if (inside && !root.contains(document.activeElement)) root.focus();
  then?.();
}

/** After anything a person did: draw it, remember it, and drop a message that no longer holds. */
function changed() {
  draw();
  keep();
  say({ state: "", text: "" });
}

function step(move) {
  tags[move]();
  changed();
}

/** The main slider moves every group, a group's own slider that group. */
function slide(range) {
  const own = sections.find((section) => section.range === range);
  if (own) own.group.level = Number(range.value);
  else moveAll(Number(range.value));
  draw(own?.group);
}

function moveAll(threshold) {
  tags.cut(threshold);
  choices = { ...choices, mcut: false };
  cutOut.ariaPressed = false;
}

/** Set the slider that has the focus, else the main one. */
function move(by) {
  const range = isRange(document.activeElement) ? document.activeElement : slider;
  range.value = Number(range.value) + by;
  slide(range);
  changed();
}

function resetAll() {
  slider.value = tags.recommended;
  slide(slider);
  changed();
}

/** While a slider is dragged the page gets no shorter, or its scrolling would pull the slider from under the pointer. */
function holdHeight(range, { pointerId }) {
  stage.style.minHeight = `${stage.offsetHeight}px`;
  range.setPointerCapture(pointerId);
}

function send(reviewed, then) {
  afterSave = then;
  keep(reviewed);
  say({ state: "saving", text: tr("Saving…") });
  trigger("save");
}

tellKeys();
list.id = `labels-${Math.random().toString(36).slice(2)}`;
field.setAttribute("aria-controls", list.id);
for (const [kind, react] of [["input", slide], ["change", changed], ["pointerdown", holdHeight]]) {
  // captured: a script's own events need not bubble
  root.addEventListener(kind, (event) => isRange(event.target) && react(event.target, event), true);
}
root.addEventListener("lostpointercapture", () => (stage.style.minHeight = ""));
reset.addEventListener("click", resetAll);
tunedSwitch.addEventListener("change", () => {
  if (choices.mcut) resetAll();
  tags.sort(tunedSwitch.checked);
  changed();
});
cutOut.addEventListener("click", toggleCut);
take.addEventListener("click", takeBest);
plotSwitch.addEventListener("click", () => choose({ plot: !choices.plot }));
for (const [name, button] of Object.entries(sources)) button.addEventListener("click", () => choose({ own: name === "own" }));
named("show-keys").addEventListener("click", openKeyMap);
undo.addEventListener("click", () => step("undo"));
redo.addEventListener("click", () => step("redo"));
save.addEventListener("click", () => send("listed"));
reviewAll.addEventListener("click", () => send("all"));
named("next").addEventListener("click", goOn);
box.addEventListener("click", (event) => {
  const chip = event.target.closest(".chip");
  if (!chip) return;
  tags.toggle(chip.dataset.label);
  changed();
});
box.addEventListener("focusin", (event) => event.target.matches(".chip") && rove(event.target));
field.addEventListener("input", search);
field.addEventListener("keydown", fieldKey);
field.addEventListener("blur", closeList);
list.addEventListener("mousedown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) add(item.dataset.name);
});
root.addEventListener("keydown", editorKey);
for (const kind of ["focusin", "focusout", "keyup"]) root.addEventListener(kind, showDigits);
watch("value", load);
load();
