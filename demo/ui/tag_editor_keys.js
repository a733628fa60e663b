// The editor's keys: digits and arrows on chips, letters for commands. Uses what tag_editor.js, which follows, declares.

let numbered = []; // the chips that digits reach

/** The first nine chips answer to digits. */
function number() {
  const first = sections.flatMap(({ shown }) => shown).slice(0, 9);
  for (const chip of numbered) if (!first.includes(chip)) for (const name of ["data-digit", "aria-keyshortcuts"]) chip.removeAttribute(name);
  first.forEach((chip, i) => {
    if (chip.dataset.digit === `${i + 1}`) return;
    chip.dataset.digit = i + 1;
    chip.setAttribute("aria-keyshortcuts", i + 1);
  });
  numbered = first;
}

/** Digits are seen while keys are in use. With :has() in the style sheet each chip that comes or goes restyled all others. */
function showDigits() {
  const focused = root.matches(":focus-visible") ? root : find(":focus-visible");
  root.toggleAttribute("data-digits", Boolean(focused) && focused !== field);
}

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

function toggleNumbered(digit) {
  const name = numbered[digit - 1]?.dataset.label;
  if (name === undefined) return;
  tags.toggle(name);
  changed();
  announce(name);
}

/** As a click, of what can be seen; `disabled` is heeded by itself. */
const press = (control) => control.checkVisibility({ visibilityProperty: true }) && control.click();

const COMMANDS = {
  "/": () => field.focus(),
  s: () => send("listed"),
  a: () => send("all"),
  d: () => finish("listed"),
  D: () => finish("all"),
  n: goOn,
  m: () => press(cutOut),
  b: () => press(take),
  t: () => press(tunedSwitch),
  p: goBack,
  "[": () => move(-0.01),
  "]": () => move(0.01),
};

function editorKey(event) {
  const command = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const run = COMMANDS[event.shiftKey ? key.toUpperCase() : key] ?? COMMANDS[key];
  const isBracket = (key === "[" || key === "]") && !event.metaKey && (event.altKey || !event.ctrlKey); // AltGr is both
  if (isLeaving || (root.dataset.view !== "ready" && key !== "n" && key !== "p")) return;
  if (command && (key === "z" || key === "y")) {
    if (event.target === field && field.value) return;
    (key === "y" || event.shiftKey ? redo : undo).click();
  } else if (event.target === field || ((command || event.altKey) && !isBracket)) {
    return;
  } else if (run) {
    run();
  } else if (/^[1-9]$/.test(key)) {
    toggleNumbered(key);
  } else if (/^(Arrow|Home$|End$)/.test(key) && !isRange(event.target)) {
    neighbour(document.activeElement, key)?.focus();
  } else return;
  event.preventDefault();
}

function tellKeys() {
  const control = navigator.platform.startsWith("Mac") ? "⌘" : "Ctrl";
  addKeys(tr("Tag editor, while it has the focus"), root, [
    ["1 – 9", tr("Turn one of the first nine labels on or off")],
    ["← → ↑ ↓", tr("Go from label to label; Home and End to the first and last")],
    ["Space", tr("Turn the label on or off")],
    ["/", tr("Add a label; Enter takes the first match, Esc leaves")],
    ["[ ]", tr("Threshold down or up")],
    ["b", tr("Take the threshold of the best F1")],
    ["m", tr("MCut, a threshold of each image’s own")],
    ["t", tr("Tuned thresholds")],
    [`${control} Z`, tr("Undo; with Shift redo")],
    ["s", tr("Save")],
    ["a", tr("Save, everything reviewed")],
    ["d", tr("Done: save, and go on to the next image")],
    ["Shift D", tr("Done, everything reviewed: save, and go on to the next image")],
    ["n p", tr("Next image, and the one before")],
  ]);
}
