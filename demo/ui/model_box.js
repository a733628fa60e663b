// The model in use, and a field that loads another one.
const [field, button, problem] = [find("input"), find("button"), find(".problem")];

function load() {
  if (button.disabled || !field.value.trim()) return field.focus();
  button.disabled = true;
  button.textContent = "Loading…";
  problem.hidden = true;
  trigger("load_model", { ref: field.value.trim() });
}

drawing(({ name, where, title, runs, error }) => {
  find(".current b").textContent = name;
  find(".current b").title = title;
  find(".current small").textContent = where;
  find("datalist").replaceChildren(...runs.map((value) => make("option", { value })));
  button.disabled = false;
  button.textContent = "Load";
  problem.textContent = error;
  problem.hidden = !error;
  if (!error) field.value = "";
});
button.addEventListener("click", load);
field.addEventListener("keydown", (event) => event.key === "Enter" && load());
