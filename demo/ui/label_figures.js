// Labels with their counts as bars; names only ever become text.
const [sheet, list, search, more] = ["section", "ol", "input", ".more"].map(find);
const LETTERS_MS = 150; // what is typed within this time is asked for once
const together = find(".together");
let waiting = 0;

const number = (count) => count.toLocaleString(language);
const count = (images) => tr.many(images, "{count} image", "{count} images");
const ask = (count = 0) => trigger("find", { text: search.value, count });

/** The share of each outcome of the decisions on a label; what is not there has no width. Whoever rejects what the model did not have agrees with it. */
function bar({ confirmed, added, rejected, false_alarms }) {
  const parts = { right: confirmed + rejected - added - false_alarms, added, rejected: false_alarms };
  const drawn = make("span", { className: "bars" });
  for (const [kind, count] of Object.entries(parts))
    if (count) {
      const part = make("span", { className: kind });
      part.style.flexGrow = count;
      drawn.append(part);
    }
  drawn.setAttribute("aria-hidden", "true");
  return drawn;
}

function line(label) {
  const counts = [tr("{count} confirmed", { count: label.confirmed })];
  if (label.added) counts.push(tr("{count} added", { count: label.added }));
  if (label.rejected) counts.push(tr("{count} rejected", { count: label.rejected }));
  const name = make("bdi", { textContent: label.name, title: label.name });
  const wrong = make("b", { textContent: tr("{share} % wrong", { share: Math.round(100 * label.error_rate) }) });
  const item = make("li", {}, make("p", { className: "name" }, name, wrong), bar(label), make("p", { className: "quiet counts", textContent: counts.join(" · ") }));
  if (label.often_with.length) {
    const others = label.often_with.flatMap(([other, count]) => [make("bdi", { textContent: other }), ` ${number(count)}`, ", "]).slice(0, -1);
    item.append(make("p", { className: "quiet with" }, `${tr("often with")} `, ...others));
  }
  item.dataset.figures = label.name;
  return item;
}

/** Each frequent label against each: the darker, the more often the column's label is on the row's images. */
function drawTogether({ names, counts }) {
  together.hidden = names.length < 2;
  const numbered = (i) => make("span", { className: "number", textContent: i + 1 });
  const column = (name, i) => make("th", { scope: "col", title: name }, numbered(i), make("span", { className: "unseen", textContent: name }));
  const cell = (i, j) => {
    if (i === j) return make("td", { className: "quiet", textContent: "–", title: `${names[i]}: ${count(counts[i][i])}` });
    const share = counts[i][j] / counts[i][i];
    const title = tr("{label} on {count} of {images} with {other}", { label: names[j], count: counts[i][j], images: count(counts[i][i]), other: names[i] });
    const drawn = make("td", { className: share ? "" : "quiet", textContent: Math.round(100 * share), title });
    drawn.style.setProperty("--share", share);
    return drawn;
  };
  const row = (name, i) =>
    make("tr", {}, make("th", { scope: "row", title: name }, numbered(i), make("bdi", { textContent: name })), ...names.map((_, j) => cell(i, j)));
  together.querySelector("thead tr").replaceChildren(make("td"), ...names.map(column));
  together.querySelector("tbody").replaceChildren(...names.map(row));
}

drawing((value) => {
  drawTogether(value.together);
  if (value.text !== search.value && document.activeElement === search) return; // a later answer is on its way
  search.value = value.text;
  sheet.hidden = value.found === 0 && value.text === "";
  const none = make("li", { className: "quiet", textContent: tr("No corrected label has this in its name.") });
  list.replaceChildren(...(value.found ? value.labels.map(line) : [none]));
  more.hidden = value.more === null;
  more.dataset.count = value.more ?? "";
  more.textContent = value.more === null ? "" : tr("Show {count} of {total}", { count: Math.min(value.more, value.found), total: value.found });
});
const wide = matchMedia("(min-width: 1121px)"); // as in page.css: on narrower pages the corrections come after the figures
const fold = () => (find(".all").open = together.open = wide.matches);
fold();
wide.addEventListener("change", fold);
search.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(ask, LETTERS_MS);
});
more.addEventListener("click", () => ask(Number(more.dataset.count)));
