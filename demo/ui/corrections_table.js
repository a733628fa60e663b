// The table of corrections; names only ever become text.
const [table, none, pages, problem] = ["table", ".none", ".pages", ".problem"].map(find);
let page = 0;
let removed = -1; // index of the row that was deleted last, until the rest is drawn

const tag = (name, kind) => make("span", { className: `tag ${kind}`, title: name }, make("bdi", { textContent: name }));
const tags = (names, kind) => (names.length ? names.map((name) => tag(name, kind(name))) : [make("span", { className: "quiet", textContent: "–" })]);

/** Delete, which asks once more in its own place. */
function deleting(row) {
  const cell = make("div", { className: "actions" });
  const ask = make("button", { type: "button", className: "plain small", textContent: tr("Delete") });
  const yes = make("button", { type: "button", className: "plain small danger", textContent: tr("Delete for good") });
  const no = make("button", { type: "button", className: "plain small", textContent: tr("Keep") });
  ask.setAttribute("aria-label", tr("Delete this correction"));
  ask.addEventListener("click", () => {
    cell.replaceChildren(yes, no);
    no.focus();
  });
  no.addEventListener("click", () => {
    cell.replaceChildren(ask);
    ask.focus();
  });
  yes.addEventListener("click", () => {
    removed = [...table.tBodies[0].rows].indexOf(cell.closest("tr"));
    yes.disabled = no.disabled = true;
    trigger("remove", { file_name: row.file_name, annotator: row.annotator, page });
  });
  cell.append(ask);
  return cell;
}

function tableRow(row) {
  const added = new Set(row.added);
  const picture = make("img", { src: row.picture, alt: "", loading: "lazy", width: 72, height: 72 });
  const [day, time] = [row.saved_at.slice(0, 10), row.saved_at.slice(11, 16)];
  const saved = make("td", { className: "when" }, make("span", { textContent: `${day} ${time}` }));
  for (const note of [
    row.reviewed === "all" && tr("everything reviewed"),
    row.held_out && tr("held out"),
    row.annotator && (row.is_yours ? tr("yours") : tr("by {annotator}", row)),
    row.is_synced && tr("synced"),
  ])
    if (note) saved.append(make("small", { textContent: note }));
  saved.title = tr("UTC; model {model}", row);
  const line = make(
    "tr",
    {},
    make("td", {}, picture),
    make("td", {}, make("div", { className: "tags" }, ...tags(row.labels, (name) => (added.has(name) ? "added" : "")))),
    make("td", {}, make("div", { className: "tags" }, ...tags(row.rejected, () => "rejected"))),
    saved,
    make("td", {}, ...(row.may_go ? [deleting(row)] : [])),
  );
  line.dataset.file = row.file_name;
  return line;
}

drawing((value) => {
  page = value.page;
  const { images, added, rejected } = value.totals;
  const empty = value.rows.length === 0;
  find(".totals").textContent = empty
    ? ""
    : [
        tr.many(images, "{count} image", "{count} images"),
        tr.many(added, "{count} label added", "{count} labels added"),
        tr("{count} rejected", { count: rejected }),
      ].join(" · ");
  find(".downloads").hidden = empty;
  table.hidden = empty;
  none.hidden = !empty || Boolean(value.message);
  table.tBodies[0].replaceChildren(...value.rows.map(tableRow));
  if (removed >= 0 && document.activeElement === document.body) [...table.querySelectorAll(".actions button")].slice(0, removed + 1).at(-1)?.focus();
  removed = -1;
  pages.hidden = value.pages === 1;
  pages.querySelector("p").textContent = tr("Page {number} of {total}", { number: page + 1, total: value.pages });
  find(".newer").disabled = page === 0;
  find(".older").disabled = page === value.pages - 1;
  problem.textContent = told(value.message);
  problem.hidden = !value.message;
});
const menu = find(".menu");
menu.addEventListener("click", (event) => event.target.closest("a") && (menu.open = false));
menu.addEventListener("focusout", (event) => menu.contains(event.relatedTarget) || (menu.open = false));
menu.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !menu.open) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
find(".newer").addEventListener("click", () => trigger("turn", { page: page - 1 }));
find(".older").addEventListener("click", () => trigger("turn", { page: page + 1 }));
