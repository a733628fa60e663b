// The tag editor in the page: draws `Tags` and turns clicks and keys into decisions.
// Names only ever become text; every listener sits on a node inside `element` and goes when it goes.

const find = (selector) => element.querySelector(selector);
const named = (name) => find(`[data-testid="${name}"]`);
const root = named("tag-editor");
const [slider, field, undo, redo, save, reviewAll] = ["threshold", "add-label", "undo", "redo", "save", "review-all"].map(named);
const [box, list, reset] = [find(".chips"), find(".add ul"), find(".reset")];
const tunedSwitch = find(".tuned input");
const bands = Object.fromEntries(Array.from(box.querySelectorAll(".band"), (band) => [band.dataset.band, band]));
const pulse = find(".bones").animate({ opacity: [1, 0.45, 1] }, { duration: 1800, iterations: Infinity });
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let value; // what Python pushed last
let tags; // its Tags; undefined while there is no image
let view; // what the chips show now
let chips = new Map(); // name → chip, each made once an image
let shown = []; // the chips of rank 0 … view.end
let kept = []; // the decided chips after them
let roving; // the one chip that Tab reaches
let announcement;

const threshold = () => Number(slider.value);
const text = (number) => number.toFixed(3);

function makeChip(name) {
  const chip = document.createElement("button");
  const [label, score] = [document.createElement("bdi"), document.createElement("small")];
  chip.type = "button";
  chip.className = "chip";
  chip.tabIndex = -1;
  chip.dataset.label = label.textContent = chip.title = name;
  chip.dataset.score = tags.has(name) ? tags.scoreOf(name) : "";
  chip.style.setProperty("--score", tags.has(name) ? tags.scoreOf(name) : 0);
  score.textContent = tags.has(name) ? tags.scoreOf(name).toFixed(2) : "new";
  chip.append(label, score);
  chips.set(name, chip);
  return chip;
}

const allChips = () => [...box.querySelectorAll(".chip")];
const chipOf = (name) => chips.get(name) ?? makeChip(name);

/** Bring the page in line with the slider and the decisions, touching only chips that differ. */
function draw() {
  view = tags.view(threshold());
  const focused = box.contains(document.activeElement) && document.activeElement;
  const before = focused && allChips().slice(0, allChips().indexOf(focused));
  while (shown.length > view.end) shown.pop().remove();
  while (shown.length < view.end) {
    const chip = chipOf(tags.nameAt(shown.length));
    shown.push(chip);
    bands.kept.before(chip);
  }
  const wanted = view.kept.map(chipOf);
  if (wanted.length !== kept.length || wanted.some((chip, i) => chip !== kept[i])) {
    for (const chip of kept) if (!shown.includes(chip)) chip.remove();
    bands.kept.after(...wanted);
    kept = wanted;
  }
  (shown[view.boundary] ?? bands.kept).before(bands.candidate);
  for (const chip of [...shown, ...kept]) {
    const state = tags.state(chip.dataset.label, view.boundary);
    if (chip.dataset.state === state) continue;
    chip.dataset.state = state;
    chip.ariaPressed = state === "active" || state === "confirmed";
  }
  bands.candidate.hidden = view.end <= view.boundary;
  bands.kept.hidden = kept.length === 0;
  const left = tags.names.length - view.end - view.kept.filter((name) => tags.has(name)).length;
  const unseen = Math.max(view.boundary - view.end, 0);
  bands.active.querySelector("small").textContent = view.boundary ? "" : "none reach the threshold";
  find(".rest").textContent = unseen
    ? `${unseen.toLocaleString("en")} more active labels are counted but not shown.`
    : left > 0
      ? `${left.toLocaleString("en")} more labels score lower.`
      : "";
  if (!roving?.isConnected) rove(shown[0] ?? kept[0]);
  if (focused && focused !== document.activeElement) {
    (focused.isConnected ? focused : (before.findLast((chip) => chip.isConnected) ?? root)).focus();
  }
  drawNumbers();
}

function drawNumbers() {
  named("active-count").value = view.count;
  find(".value").value = text(threshold());
  slider.parentNode.style.setProperty("--at", threshold());
  reset.disabled = threshold() === tags.recommended;
  undo.disabled = tags.done.length === 0;
  redo.disabled = tags.undone.length === 0;
  holdFocus();
  const curve = find(".curve");
  curve.hidden = !value.curve || tags.tuned;
  if (!curve.hidden) {
    const [precision, recall] = ["precision", "recall"].map((name) => interpolate(value.curve, name, threshold()));
    const shownAs = (number) => (number === null ? "–" : number.toFixed(2));
    curve.textContent = `precision ${shownAs(precision)} · recall ${shownAs(recall)} on the checkpoint’s validation photos`;
  }
  const shift = threshold() - tags.recommended;
  find(".tuned span").textContent = tags.tuned
    ? `tuned per label${shift ? `, all shifted by ${shift > 0 ? "+" : "−"}${text(Math.abs(shift))}` : ""}`
    : "tuned per label";
  clearTimeout(announcement);
  announcement = setTimeout(() => (find(".announcer").textContent = `${view.count} labels active`), 600);
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
  value = { ...value, slider: threshold(), tuned: tags.tuned, confirmed, rejected, reviewed };
  props.value = value;
}

function show(what) {
  root.dataset.view = what;
  root.ariaBusy = what === "busy";
  const idle = what !== "ready";
  for (const control of [slider, field, save, reviewAll, tunedSwitch]) control.disabled = idle;
  if (idle) for (const control of [undo, redo, reset]) control.disabled = true;
  holdFocus();
  if (what === "busy" && !calm.matches) pulse.play();
  else pulse.cancel();
}

/** Take what Python pushed: an image, a message about it, or nothing. */
function load() {
  const pushed = props.value || { clear: true };
  const inside = root.contains(document.activeElement);
  if (pushed.scores !== undefined) {
    value = pushed;
    tags = new Tags(value);
    slider.value = value.slider;
    tunedSwitch.checked = value.tuned;
    find(".tuned").hidden = !value.thresholds;
    slider.parentNode.style.setProperty("--recommended", value.threshold);
  } else if (pushed.clear) {
    value = tags = undefined;
    named("active-count").value = 0;
  } else if (value) {
    value = { ...value, revision: pushed.revision };
    props.value = value;
  }
  const { state = "", text = "" } = pushed;
  if (pushed.scores !== undefined || pushed.clear) {
    chips.forEach((chip) => chip.remove());
    [chips, shown, kept, roving] = [new Map(), [], [], undefined];
    closeList();
    field.value = "";
  }
  show(state === "busy" ? "busy" : tags ? "ready" : "empty");
  if (tags) draw();
  say({ state, text });
  if (inside && !root.contains(document.activeElement)) root.focus();
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

function move(by) {
  slider.value = threshold() + by;
  changed();
}

function send(reviewed) {
  keep(reviewed);
  say({ state: "saving", text: "Saving…" });
  trigger("save");
}

function goOn() {
  root.focus();
  trigger("next");
}

// Keys on chips and on the editor

/** The chip that an arrow key leads to: the neighbour, or the nearest one in the next row. */
function neighbour(chip, key) {
  const all = allChips();
  if (key === "Home" || key === "End") return all.at(key === "Home" ? 0 : -1);
  if (chip === undefined || !all.includes(chip)) return roving;
  if (key === "ArrowRight" || key === "ArrowLeft") return all[all.indexOf(chip) + (key === "ArrowRight" ? 1 : -1)];
  const down = key === "ArrowDown";
  const from = chip.getBoundingClientRect();
  const beyond = all
    .map((other) => [other, other.getBoundingClientRect()])
    .filter(([, at]) => (down ? at.top > from.top : at.top < from.top));
  const row = beyond.at(down ? 0 : -1)?.[1].top;
  const aside = ([, at]) => Math.abs(at.left + at.width / 2 - from.left - from.width / 2);
  return beyond.filter(([, at]) => at.top === row).sort((a, b) => aside(a) - aside(b))[0]?.[0];
}

const COMMANDS = {
  "/": () => field.focus(),
  s: () => send("listed"),
  n: goOn,
  "[": () => move(-0.01),
  "]": () => move(0.01),
};

function editorKey(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (root.dataset.view !== "ready" && key !== "n") return;
  if (command && (key === "z" || key === "y")) {
    if (event.target === field && field.value) return;
    (key === "y" || event.shiftKey ? redo : undo).click();
  } else if (command || event.altKey || event.target === field) {
    return;
  } else if (COMMANDS[key]) {
    COMMANDS[key]();
  } else if (/^(Arrow|Home$|End$)/.test(key) && event.target !== slider) {
    neighbour(document.activeElement, key)?.focus();
  } else return;
  event.preventDefault();
}

list.id = `labels-${Math.random().toString(36).slice(2)}`;
field.setAttribute("aria-controls", list.id);
slider.addEventListener("input", draw);
slider.addEventListener("change", changed);
reset.addEventListener("click", () => move(tags.recommended - threshold()));
tunedSwitch.addEventListener("change", () => {
  tags.sort(tunedSwitch.checked);
  while (shown.length) shown.pop().remove();
  changed();
});
undo.addEventListener("click", () => step("undo"));
redo.addEventListener("click", () => step("redo"));
save.addEventListener("click", () => send("listed"));
reviewAll.addEventListener("click", () => send("all"));
named("next").addEventListener("click", goOn);
box.addEventListener("click", (event) => {
  const chip = event.target.closest(".chip");
  if (!chip) return;
  tags.toggle(chip.dataset.label, view.boundary);
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
watch("value", load);
load();
