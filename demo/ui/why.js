// While the switch is on: a map over the image for the label under the pointer, under the focus or held by a finger.
// Chips are made anew for every image, so that what belongs to a chip belongs to its image too.
const DWELL = 150;
const HOLD = 400;
const PATIENCE = 30_000; // after which an answer is taken for lost
const KEPT = "tagloop-why";
const [toggle, map] = ["why", "heatmap"].map(named);
const [layer, caption] = [map.querySelector("img"), map.querySelector("figcaption")];
const answers = new WeakMap(); // chip → what the server told
const alive = new AbortController();

let [pointed, focused, shown, asked] = []; // chips; `asked` is the one that the server is working on
let [turn, since, timer, holding] = [0, 0];
let held = false;

const chipAt = (node) => node.closest?.('[data-testid="tag-editor"] [data-label]') ?? undefined;
const photo = () => document.querySelector("#image img");
const removed = new MutationObserver(() => !shown?.isConnected && hide());
const resized = new ResizeObserver(place);

/** Lay the map over the picture itself, which is smaller than its box by the margins of object-fit. */
function place() {
  const image = photo();
  if (map.hidden || !image) return;
  const [box, from] = [image.getBoundingClientRect(), map.offsetParent.getBoundingClientRect()];
  const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  const [left, top] = [box.left - from.left + (box.width - width) / 2, box.top - from.top + (box.height - height) / 2];
  Object.assign(map.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
}

function hide() {
  clearTimeout(timer);
  pointed = focused = shown = undefined;
  map.hidden = true;
  removed.disconnect();
  resized.disconnect();
}

/** A text, and the label in its own direction where the text has a place for it. */
function say(text, label) {
  const [before, after = ""] = text.split("{label}");
  caption.replaceChildren(before, ...(label === undefined ? [] : [make("bdi", { textContent: label }), after]));
}

function show(chip) {
  const { src, none, cut } = answers.get(chip) ?? {};
  layer.hidden = !src;
  if (src) layer.src = src;
  if (none) say(told(none));
  else say(src ? tr("What speaks for {label}") : tr("Looking for what speaks for {label}"), chip.dataset.label);
  if (cut) caption.append(` · ${tr("grey is not seen by the model")}`);
  map.hidden = false;
  place();
}

/** After a moment, whatever is pointed at or else has the focus. */
function settle() {
  const chip = pointed ?? focused;
  if (chip === shown) return;
  if (!chip?.isConnected || !photo()) return hide();
  shown = chip;
  removed.observe(document.querySelector('[data-testid="tag-editor"]'), { childList: true, subtree: true });
  resized.observe(photo());
  show(chip);
  ask();
}

/** One question at a time, and the next one about the chip that is shown by then. */
function ask() {
  const isBusy = asked && performance.now() - since < PATIENCE;
  if (!shown || answers.has(shown) || isBusy) return;
  [asked, since] = [shown, performance.now()];
  trigger("ask", { label: asked.dataset.label, turn: ++turn });
}

function plan(wait = DWELL) {
  clearTimeout(timer);
  if (toggle.checked) timer = setTimeout(settle, wait);
}

function flip() {
  sessionStorage.setItem(KEPT, toggle.checked ? "on" : "");
  if (!toggle.checked) return hide();
  focused = chipAt(document.activeElement);
  plan(0);
}

function key(event) {
  if (event.key === "Escape" && !map.hidden) hide();
  if (event.key.toLowerCase() !== "h" || isTyping(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!event.target.closest?.('[data-testid="tag-editor"]')) return;
  event.preventDefault();
  toggle.click();
}

const listeners = {
  pointerover({ target, pointerType }) {
    if (pointerType === "touch" || chipAt(target) === pointed) return;
    pointed = chipAt(target);
    plan();
  },
  focusin({ target }) {
    focused = target.matches(":focus-visible") ? chipAt(target) : undefined;
    plan();
  },
  focusout() {
    focused = undefined;
    plan();
  },
  pointerdown({ target, pointerType }) {
    held = false;
    if (pointerType !== "touch" || !toggle.checked) return;
    pointed = undefined;
    if (!chipAt(target)) return plan(0);
    holding = setTimeout(() => {
      [held, pointed] = [true, chipAt(target)];
      plan(0);
    }, HOLD);
  },
  pointerup: () => clearTimeout(holding),
  pointercancel: () => clearTimeout(holding),
  contextmenu: (event) => toggle.checked && event.pointerType === "touch" && chipAt(event.target) && event.preventDefault(),
  click(event) {
    if (!held || !chipAt(event.target)) return; // a label that was held is looked at, not decided on
    held = false;
    event.preventDefault();
    event.stopPropagation();
  },
  keydown: key,
  load: ({ target }) => target === photo() && place(), // until then the size is that of the photo before
};
for (const [kind, react] of Object.entries(listeners)) {
  const heard = (event) => (element.isConnected ? react(event) : alive.abort());
  document.addEventListener(kind, heard, { capture: true, signal: alive.signal });
}
toggle.checked = sessionStorage.getItem(KEPT) === "on";
toggle.addEventListener("change", flip);
addKeys(tr("Why?"), element, [["h", tr("What speaks for the label in focus, on and off")]]);
drawing((value) => {
  if (value.turn !== turn || !asked) return;
  const chip = asked;
  answers.set(chip, value);
  asked = undefined;
  if (chip === shown) show(chip);
  ask();
});
