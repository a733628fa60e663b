// Adding a label: the autocomplete field and its list. Uses what tag_editor.js, which follows, declares.

function closeList() {
  list.hidden = true;
  list.replaceChildren();
  field.ariaExpanded = false;
  field.removeAttribute("aria-activedescendant");
}

function option(name, known) {
  const item = document.createElement("li");
  item.role = "option";
  item.id = `${list.id}-${list.childElementCount}`;
  item.dataset.name = name;
  const [label, note] = [document.createElement("bdi"), document.createElement("small")];
  label.textContent = name;
  note.textContent = known ? tags.scoreOf(name).toFixed(2) : tr("add as a new label");
  item.append(label, note);
  list.append(item);
}

const typed = () => field.value.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, " ").trim();

function search() {
  closeList();
  if (!typed()) return;
  for (const name of tags.search(typed())) option(name, true);
  if (!tags.has(typed())) option(typed(), false);
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
