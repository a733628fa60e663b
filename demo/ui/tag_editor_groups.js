// The groups of chips, one a category with a slider of its own. Uses what tag_editor.js, which follows, declares.

let sections = []; // one for each of tags.groups
let chips = new Map(); // name → chip, each made once an image
const FITS = /^[ -~]{0,20}$/; // a name that is never wider than a phone: 300 that could be cut off cost a sixth of a frame

function makeChip(name) {
  const chip = document.createElement("button");
  const [label, score, bar] = ["bdi", "small", "i"].map((tag) => document.createElement(tag));
  chip.type = "button";
  chip.className = FITS.test(name) ? "chip" : "chip long";
  chip.tabIndex = -1;
  chip.dataset.label = label.textContent = chip.title = name;
  chip.dataset.score = tags.has(name) ? tags.scoreOf(name) : "";
  bar.style.width = tags.has(name) ? `calc(${tags.scoreOf(name)} * (100% - 18px))` : 0; // 18px: twice the 9px of tag_editor.css
  score.textContent = tags.has(name) ? tags.scoreOf(name).toFixed(2) : tr("new");
  if (!tags.has(name)) {
    score.className = "new";
    chip.title = tr("{label}: new, this model does not know it. A fine-tune learns it from the images that have it.", { label: name });
  }
  chip.append(label, score, bar);
  chips.set(name, chip);
  return chip;
}

const chipOf = (name) => chips.get(name) ?? makeChip(name);

function makeSection(group) {
  const node = find(".blank").content.firstElementChild.cloneNode(true);
  const part = (selector) => node.querySelector(selector);
  const bands = Object.fromEntries(Array.from(node.querySelectorAll(".band"), (band) => [band.dataset.band, band]));
  const section = { node, group, shown: [], bands, box: part(".chips"), count: part("output"), value: part(".value") };
  const [title, range] = [part(".title"), part("input")];
  if (tags.groups.length === 1) title.remove();
  else {
    const name = group.category === undefined ? tr("New labels") : group.category || tr("other");
    title.querySelector("bdi").textContent = name;
    section.box.ariaLabel = name;
    node.dataset.kind = group.exclusive ? "exclusive" : group.category === undefined ? "new" : "own";
    if (tags.hasSlider(group)) {
      section.range = range;
      range.dataset.testid = `threshold-${group.category}`;
      range.ariaLabel = tr("Threshold of {category}", { category: name });
      section.count.dataset.testid = `active-count-${group.category}`;
      section.count.ariaLabel = tr("Active in {category}", { category: name });
    }
  }
  return section;
}

function makeSections() {
  for (const { node } of sections) node.remove();
  chips = new Map();
  sections = tags ? tags.groups.map(makeSection) : [];
  box.append(...sections.map(({ node }) => node));
}

/** Make `wanted` the chips of a box in this order, touching only those that differ. */
function arrange(box, before, wanted) {
  const staying = new Set(wanted);
  for (const chip of before) if (!staying.has(chip)) chip.remove();
  const next = (node) => (node && !node.matches(".chip") ? next(node.nextElementSibling) : node);
  let at = next(box.firstElementChild);
  for (const chip of wanted) {
    if (chip === at) at = next(at.nextElementSibling);
    else box.insertBefore(chip, at);
  }
}

/** A band stands before its first chip, and is hidden where it has none. */
function put(band, first) {
  band.hidden = !first;
  if (first && band.nextElementSibling !== first) first.before(band);
}

function drawSection(section) {
  const { node, group, box, bands, shown } = section;
  const wanted = [...group.active, ...group.candidates, ...group.kept].map(chipOf);
  if (wanted.length !== shown.length || wanted.some((chip, i) => chip !== shown[i])) arrange(box, shown, wanted);
  section.shown = wanted;
  put(bands.candidate, group.candidates.length ? wanted[group.active.length] : null);
  put(bands.kept, group.kept.length ? wanted.at(-group.kept.length) : null);
  bands.active.querySelector("small").textContent = group.boundary ? "" : tr("none reach the threshold");
  for (const chip of wanted) {
    const state = tags.state(chip.dataset.label);
    if (chip.dataset.state === state) continue;
    chip.dataset.state = state;
    chip.ariaPressed = state === "active" || state === "confirmed";
  }
  node.hidden = node.dataset.kind === "new" && wanted.length === 0;
  if (section.range) drawRange(section);
}

function drawRange({ node, group, range, count, value }) {
  const level = tags.levelOf(group);
  if (Number(range.value) !== level) range.value = level;
  range.parentNode.style.setProperty("--at", level);
  node.toggleAttribute("data-split", group.level !== null);
  count.value = group.count;
  value.value = text(level);
}
