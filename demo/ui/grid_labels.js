// The grid's label box: an autocomplete over all labels. Uses `choose` of grid.js, which follows.

const HITS = 12;
const [labelField, labelList] = ["grid-label", "grid-labels"].map(named);
let labels = []; // names, in the model's order
let plainLabels = [];
let toDo = new Int32Array(); // by label of the model: photos above its line that nobody decided on
let byToDo = []; // positions

/** Lower case, with underscores read as spaces: how labels are compared with what is typed. */
const plain = (text) => text.toLowerCase().replaceAll("_", " ");

function takeLabels(names, counts) {
  labels = JSON.parse(names);
  plainLabels = labels.map(plain);
  toDo = new Int32Array(bytesOf(counts).buffer);
  byToDo = Array.from(labels.keys()).sort((a, b) => (toDo[b] ?? 0) - (toDo[a] ?? 0));
}

/** Positions of labels that hold the text: the exact one, those that start with it, then the others; most to do first. */
function matches(text) {
  const wanted = plain(text.trim());
  if (!wanted) return byToDo.slice(0, HITS);
  const tiers = [[], [], []];
  for (const position of byToDo) {
    const found = plainLabels[position].indexOf(wanted);
    if (found >= 0) tiers[found ? 2 : plainLabels[position].length > wanted.length ? 1 : 0].push(position);
  }
  return tiers.flat().slice(0, HITS);
}

function closeLabels() {
  labelList.hidden = true;
  labelList.replaceChildren();
  labelField.ariaExpanded = labelField.ariaInvalid = false;
  labelField.removeAttribute("aria-activedescendant");
}

function showLabels() {
  const found = matches(labelField.value === chosenLabel() ? "" : labelField.value);
  labelList.replaceChildren(
    ...found.map((position, i) => {
      const count = toDo[position];
      const note = count === undefined ? tr("only in corrections") : tr("{count} to do", { count });
      const item = make("li", { id: `${labelList.id}-${i}` }, make("bdi", { textContent: labels[position] }), make("small", { textContent: note }));
      item.role = "option";
      item.dataset.name = labels[position];
      return item;
    }),
  );
  labelList.hidden = false;
  labelField.ariaExpanded = true;
  labelField.ariaInvalid = !found.length;
  if (found.length) return markLabel(labelList.firstChild);
  labelField.removeAttribute("aria-activedescendant");
  const none = make("li", { className: "none", textContent: tr("No such label.") });
  none.role = "option";
  none.ariaDisabled = true;
  labelList.append(none);
}

function markLabel(item) {
  for (const other of labelList.children) other.ariaSelected = other === item;
  labelField.setAttribute("aria-activedescendant", item.id);
  item.scrollIntoView({ block: "nearest" });
}

function takeLabel(name) {
  closeLabels();
  choose(name);
}

function labelKey(event) {
  if (isComposing(event)) return;
  const marked = labelList.querySelector("[aria-selected=true]");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    labelField.value = chosenLabel();
    closeLabels();
    focusGrid();
  } else if (event.key === "Enter") {
    if (marked) takeLabel(marked.dataset.name);
    else if (labelField.value.trim()) say("error", tr("There is no label “{name}”. Save a photo with it on the Tag tab, and it is here.", { name: labelField.value.trim() }));
  } else if (step && labelList.hidden) {
    showLabels();
  } else if (step && marked) {
    const items = [...labelList.children];
    markLabel(items.at((items.indexOf(marked) + step) % items.length));
  } else return;
  event.preventDefault();
}

labelList.id = `grid-labels-${Math.random().toString(36).slice(2)}`;
labelField.setAttribute("aria-controls", labelList.id);
labelField.addEventListener("focus", () => {
  labelField.select();
  showLabels();
});
labelField.addEventListener("input", () => {
  say("", "");
  showLabels();
});
labelField.addEventListener("keydown", labelKey);
labelField.addEventListener("blur", () => {
  closeLabels();
  labelField.value = chosenLabel();
});
labelList.addEventListener("mousedown", (event) => event.preventDefault());
labelList.addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (item) takeLabel(item.dataset.name);
});
