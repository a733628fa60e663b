// The model in use, a field that loads another one, and a first look at either. Names and cards only become text.
const [field, load, cancel, about] = ["input", ".load", ".cancel", ".about"].map(find);
const [list, look, loading, problem, warning] = ["ul", ".look", ".loading", ".problem", ".warning"].map(find);
let drawn; // the last value that said which model is in use
let options = []; // the suggestions in the list, and which of them the arrows have reached
let at = -1;

const megabytes = (bytes) => (bytes / 1e6).toLocaleString(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function show(node, is) {
  node.hidden = !is;
}

// The list

function close() {
  show(list, false);
  at = -1;
  field.ariaExpanded = "false";
  field.removeAttribute("aria-activedescendant");
}

function open() {
  if (!drawn || field.disabled) return;
  const typed = field.value.trim().toLowerCase();
  const suggestions = drawn.suggestions.map((one) => ({ ...one, note: told(one.note), group: told(one.group) }));
  options = suggestions.filter(({ ref, name, note }) => `${ref} ${name} ${note}`.toLowerCase().includes(typed));
  const nodes = [];
  options.forEach(({ ref, name, note, group }, i) => {
    if (group !== options[i - 1]?.group) nodes.push(make("li", { role: "presentation", className: "group", textContent: group }));
    const item = make("li", { role: "option", id: `model-option-${i}`, title: ref }, make("bdi", { textContent: name }), make("small", { textContent: note }));
    item.dataset.ref = ref;
    nodes.push(item);
  });
  list.replaceChildren(...nodes);
  show(list, options.length > 0);
  show(look, false);
  about.ariaExpanded = "false";
  field.ariaExpanded = String(options.length > 0);
  reach(drawn.free || !typed ? -1 : 0);
}

function reach(next) {
  at = options.length ? Math.max(-1, Math.min(next, options.length - 1)) : -1;
  list.querySelectorAll("[role=option]").forEach((item, i) => {
    item.ariaSelected = String(i === at);
    if (i === at) item.scrollIntoView({ block: "nearest" });
  });
  if (at < 0) field.removeAttribute("aria-activedescendant");
  else field.setAttribute("aria-activedescendant", `model-option-${at}`);
}

function ask(ref) {
  if (!ref) return field.focus();
  close();
  show(problem, false);
  drawLoading({ ref, stage: tr("Starting…"), done: 0, total: 0 });
  trigger("load_model", { ref });
}

function key(event) {
  if (isComposing(event)) return;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (list.hidden) open();
    else reach(at + (event.key === "ArrowDown" ? 1 : -1));
  } else if (event.key === "Enter") {
    ask(at >= 0 ? options[at].ref : field.value.trim());
  } else if (event.key === "Escape" && !list.hidden) {
    close();
  } else return;
  event.preventDefault();
}

// What is loaded, and what is on its way

function drawLook({ rows, text }) {
  const facts = rows.map(([name, value]) => [make("dt", { textContent: told(name) }), make("dd", { textContent: told(value) })]);
  look.replaceChildren(make("dl", {}, ...facts.flat()), ...text.map((paragraph) => make("p", { textContent: paragraph })));
}

function drawLoading({ ref, name, stage, done, total, look: arriving }) {
  const focused = element.contains(document.activeElement) && document.activeElement;
  for (const node of [field, load]) show(node, false);
  for (const node of [loading, cancel]) show(node, true);
  cancel.disabled = false;
  loading.querySelector("bdi").textContent = name ?? ref;
  loading.title = ref;
  loading.querySelector("span").textContent = total
    ? tr("{done} of {total} MB", { done: megabytes(done), total: megabytes(total) })
    : told(stage);
  const bar = loading.querySelector("progress");
  if (total) bar.value = done / total;
  else bar.removeAttribute("value");
  if (arriving) drawLook(arriving);
  if (focused === field || focused === load) cancel.focus();
}

drawing((value) => {
  if (value.loading) return drawLoading(value.loading);
  const inside = document.activeElement === cancel;
  if (drawn && drawn.title !== value.title) find("[role=status]").textContent = tr("{model} is in use now.", { model: value.name });
  drawn = value;
  find(".current b").textContent = value.name;
  find(".current b").title = value.title;
  find(".current small").textContent = told(value.where);
  field.placeholder = told(value.hint);
  for (const node of [field, load]) show(node, true);
  for (const node of [loading, cancel]) show(node, false);
  drawLook(value.look);
  problem.textContent = told(value.error);
  warning.textContent = told(value.warning);
  show(problem, value.error);
  show(warning, value.warning);
  if (!value.error) field.value = "";
  if (inside) field.focus({ preventScroll: true });
  close();
});

document.addEventListener("tagloop-tagged", ({ detail }) => {
  if (element.isConnected && drawn && detail !== drawn.title && loading.hidden) trigger("look_again");
});
field.setAttribute("aria-controls", list.id);
field.addEventListener("focus", () => !problem.hidden || open());
field.addEventListener("click", () => list.hidden && open());
field.addEventListener("input", open);
field.addEventListener("keydown", key);
field.addEventListener("blur", close);
list.addEventListener("mousedown", (event) => event.preventDefault());
list.addEventListener("click", (event) => {
  const item = event.target.closest("[role=option]");
  if (item) ask(item.dataset.ref);
});
load.addEventListener("click", () => ask(field.value.trim()));
cancel.addEventListener("click", () => {
  cancel.disabled = true;
  trigger("cancel_load");
});
about.addEventListener("click", () => {
  show(look, look.hidden);
  about.ariaExpanded = String(!look.hidden);
});
find(".box").addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || look.hidden) return;
  show(look, false);
  about.ariaExpanded = "false";
  about.focus();
});
