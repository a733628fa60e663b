// The photo beside the editor, and the way from one photo to another. Uses what tag_editor.js, which follows, declares.

const PATIENCE = 15_000; // after which an answer is taken for lost
const desk = element.closest("#desk"); // null where the editor stands alone
const alive = new AbortController();
let turn = 0; // numbers what is pressed; its answer has the same number
let isLeaving = false;
let patience;

/** From a press until its answer nothing can be decided: it would be on the photo that is left, and be lost. */
function hold(is) {
  clearTimeout(patience);
  isLeaving = is;
  if (is) patience = setTimeout(hold, PATIENCE, false);
  root.toggleAttribute("data-leaving", is);
  for (const part of root.querySelectorAll(":scope > :not(.foot, .announcer), .actions button")) part.inert = is;
}

function leave(way) {
  root.focus(); // which what is inert loses
  hold(true);
  trigger(way, { turn: ++turn });
}

function goOn() {
  leave("next");
}

function goBack() {
  leave("previous");
}

/** Save, and go on once that is acknowledged. */
function finish(reviewed) {
  root.focus();
  hold(true);
  send(reviewed, goOn);
}

/** The place and the name of an image, for who cannot see them below it. */
function toldOf({ place, name }) {
  const where = place && tr("{number} of {total}", { number: `${place[0]}`, total: `${place[1]}` });
  const said = [where, name].filter(Boolean).join(", ");
  return said && `${said}. `;
}

/** The file's name as the address has it: of an upload nothing else is known. */
const fileName = ({ src }) => (/^https?:/.test(src) ? decodeURI(src).split("/").at(-1) : "");

/** A picture shows the file before until its own has arrived, under chips that are its own already: not to be seen. */
function lookAtPicture() {
  const picture = desk?.querySelector("#image img");
  if (!picture) return;
  picture.style.visibility = picture.complete ? "" : "hidden";
  picture.alt = value?.name || fileName(picture);
}

if (desk) {
  const look = () => (element.isConnected ? lookAtPicture() : alive.abort());
  const swaps = new MutationObserver(look);
  swaps.observe(desk, { subtree: true, attributeFilter: ["src"] });
  alive.signal.addEventListener("abort", () => swaps.disconnect());
  for (const kind of ["load", "error"]) desk.addEventListener(kind, look, { capture: true, signal: alive.signal });
}
