// The line under the image: place in the folder, size, how long the model took.
let shown;
drawing((value) => {
  if (value.keep && !(value.of && shown?.place)) return;
  if (value.keep) value = { ...shown, place: { ...shown.place, of: value.of } }; // more photos have come
  shown = value;
  const parts = [];
  if (value.place) parts.push(make("b", { textContent: tr("{number} of {total}", { number: `${value.place.number}`, total: `${value.place.of}` }) }));
  if (value.place && value.name) parts.push(make("bdi", { textContent: value.name }));
  for (const fact of [value.size, value.took]) if (fact) parts.push(make("span", { textContent: told(fact) }));
  // the server's own model may have become another one since the model box was drawn
  if (value.model) document.dispatchEvent(new CustomEvent("tagloop-tagged", { detail: value.model }));
  find(".facts").replaceChildren(...parts);
});
