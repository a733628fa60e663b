// Adding a label: the autocomplete field and its list. Uses what tag_editor.js, which follows, declares.

const REMEMBERED = 50;
const labelsOfBefore = () => globalThis.tagloopLabels ?? []; // outlives the node, as `unsaved` does

/** A label that the model lacks is offered on the images after, newest first: typed again it might be another one. */
function remember() {
  const names = tags.decided("confirmed").filter((name) => !tags.has(name));
  globalThis.tagloopLabels = [...new Set([...names.reverse(), ...labelsOfBefore()])].slice(0, REMEMBERED);
}

function closeList() {
  list.hidden = true;
  list.replaceChildren();
  field.ariaExpanded = false;
  field.removeAttribute("aria-activedescendant");
}

function option(name, about) {
  const item = document.createElement("li");
  item.role = "option";
  item.id = `${list.id}-${list.childElementCount}`;
  item.dataset.name = name;
  const [label, note] = [document.createElement("bdi"), document.createElement("small")];
  label.textContent = name;
  note.textContent = about;
  item.append(label, note);
  list.append(item);
}

const typed = () => field.value.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ").trim();

function search() {
  closeList();
  if (!typed()) return;
  const found = tags.search(typed(), labelsOfBefore());
  for (const name of found) option(name, tags.has(name) ? tags.scoreOf(name).toFixed(2) : tr("new"));
  if (!found.includes(typed())) option(typed(), tr("add as a new label"));
  list.hidden = false;
  field.ariaExpanded = true;
  mark(list.firstChild);
}

function mark(item) {
  for (const other of list.children) other.ariaSelected = other === item;
  field.setAttribute("aria-activedescendant", item.id);
  item.scrollIntoView({ block: "nearest" });
}

function add(name) {
  tags.decide(name, "confirmed");
  changed();
  field.value = "";
  closeList();
}

function fieldKey(event) {
  if (isComposing(event)) return;
  const marked = list.querySelector("[aria-selected=true]");
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "Escape") {
    if (list.hidden) root.focus();
    else closeList();
  } else if (event.key === "Enter") {
    if (marked) add(marked.dataset.name);
  } else if (step && list.hidden) {
    search();
  } else if (step) {
    const items = [...list.children];
    mark(items.at((items.indexOf(marked) + step) % items.length));
  } else return;
  event.preventDefault();
}
