// The tiles of the grid: rows that can be seen, and the line between what is active and what is not.
// Uses `column` and `selection` of grid.js, which follows.

const [GAP, LEAST_WIDE, LEAST_NARROW, CAPTION] = [10, 144, 84, 26];
const SPARE_ROWS = 1;
const REST_MS = 80; // so long the scrolling rests before what flew by is completed
const FAST = 3; // px a millisecond: so fast nobody sees a picture or reads a score
const WORDS = ["", "confirmed", "rejected", "absent"];
const SAID = {
  untagged: tr("not tagged yet"),
  unknown: "",
  active: tr("active"),
  candidate: tr("candidate"),
  confirmed: tr("confirmed"),
  rejected: tr("rejected"),
  absent: tr("absent"),
};
const [UNDECIDED, NOT_SAVED] = [tr("undecided"), tr("not saved")];
const [scroller, rail] = [".tiles", ".rail"].map(find);
const lines = [...rail.querySelectorAll(".line")];

let columns = 1; // tiles in a row
let [width, tileWidth] = [0, 0];
let pitch = 1; // from one row to the next, in px
let rows = new Map(); // row number → node
let spare = []; // nodes of rows that went out of sight
let at = 0; // index of the tile that Tab reaches
let resting; // a timer while photos fly by
let [lastTop, lastTime] = [0, 0];

const rowCount = () => Math.ceil(column.length / columns);
const rowOf = (i) => Math.floor(i / columns);
const tileAt = (i) => rows.get(rowOf(i))?.children[i % columns];

/** Measure, and draw everything anew. */
function layOut() {
  width = rail.clientWidth;
  if (!column || !width) return;
  const least = width < 560 ? LEAST_NARROW : LEAST_WIDE;
  columns = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
  tileWidth = (width - (columns - 1) * GAP) / columns;
  pitch = Math.round(tileWidth * 0.75) + CAPTION + GAP;
  rail.style.height = `${Math.max(0, rowCount() * pitch - GAP)}px`;
  rail.dataset.narrow = tileWidth < 120;
  rail.style.setProperty("--columns", columns);
  rail.style.setProperty("--row", `${pitch - GAP}px`);
  rail.ariaRowCount = rowCount();
  rail.ariaColCount = columns;
  clearRows();
  drawRows();
  drawLine();
}

function clearRows() {
  for (const node of rows.values()) node.remove();
  rows = new Map();
  spare = [];
}

/** Put the rows that can be seen into the page and take out the others, but for the one that has the focus. */
function drawRows() {
  if (!column || !tileWidth) return;
  const { scrollTop, clientHeight } = scroller; // read before anything is written, or the layout is made twice
  watchSpeed(scrollTop);
  const [top, inSight, spareRows] = [Math.floor(scrollTop / pitch), Math.ceil(clientHeight / pitch) + 1, resting ? 0 : SPARE_ROWS];
  const first = Math.max(0, top - spareRows);
  const last = Math.min(rowCount(), top + inSight + spareRows);
  const wanted = new Set();
  if (column.length) wanted.add(rowOf(at));
  for (let row = first; row < last; row++) wanted.add(row);
  const [old, fresh] = [[...rows.keys()].filter((row) => !wanted.has(row)), [...wanted].filter((row) => !rows.has(row))];
  old.sort((a, b) => a - b);
  for (const row of fresh.sort((a, b) => a - b)) {
    const node = old.length ? rows.get(old[0]) : (spare.pop() ?? emptyRow());
    if (old.length) rows.delete(old.shift());
    rows.set(row, node);
    fillRow(node, row);
    if (!node.isConnected) lines[0].before(node);
  }
  for (const row of old) {
    spare.push(rows.get(row));
    rows.get(row).remove();
    rows.delete(row);
  }
  if (column.length) complete(tileAt(at)); // it may have the focus
  if (resting) return;
  sortRows();
  for (const tile of shownTiles()) complete(tile);
}

/** Rows stand in their order for who reads on; not while they fly by, since a row that moves is laid out anew. */
function sortRows() {
  let next = lines[0];
  for (const row of [...rows.keys()].sort((a, b) => b - a)) {
    const node = rows.get(row);
    if (node.nextSibling !== next && !node.contains(document.activeElement)) rail.insertBefore(node, next); // else it lost the focus
    next = node;
  }
}

/** While photos fly by, `resting` is the timer that will end that. */
function watchSpeed(top) {
  const [now, moved] = [performance.now(), Math.abs(top - lastTop)];
  const isFast = moved > FAST * (now - lastTime);
  [lastTop, lastTime] = [top, now];
  if (!moved) return;
  clearTimeout(resting);
  resting = isFast ? setTimeout(rest, REST_MS) : undefined;
}

function rest() {
  resting = undefined;
  drawRows();
}

function fillRow(node, row) {
  node.ariaRowIndex = row + 1;
  node.style.transform = `translateY(${row * pitch}px)`;
  [...node.children].forEach((tile, inRow) => fill(tile, row * columns + inRow));
}

function emptyRow() {
  const row = make("div", { className: "row" });
  row.role = "row";
  for (let inRow = 0; inRow < columns; inRow++) {
    const picture = make("img", { alt: "", decoding: "async", draggable: false });
    const tile = make("div", { className: "tile" }, picture, make("p", {}, make("span"), make("b")));
    tile.role = "gridcell";
    tile.ariaColIndex = inRow + 1;
    row.append(tile);
  }
  return row;
}

/** Make a tile that of another photo, without what `complete` adds. */
function fill(tile, i) {
  const [picture, caption] = tile.children;
  tile.hidden = i >= column.length;
  picture.removeAttribute("src");
  caption.firstChild.textContent = "";
  for (const name of ["title", "aria-label"]) tile.removeAttribute(name);
  if (tile.hidden) {
    delete tile.dataset.index;
    return;
  }
  tile.dataset.index = i;
  tile.dataset.place = column.places[i];
  drawTile(tile, i);
}

/** Its picture, its score, and its name for screen readers: too dear for tiles that fly by. */
function complete(tile) {
  if (tile.ariaLabel) return;
  const [i, [picture, caption]] = [Number(tile.dataset.index), tile.children];
  tile.ariaLabel = nameOf(i);
  picture.src = pictureOf(i);
  caption.firstChild.textContent = scoreOf(i);
}

const scoreOf = (i) => (i < column.scored ? column.scores[i].toFixed(3) : "");

const bandOf = (i) => (!column.isOpen(i) ? "untagged" : !column.isKnown ? "unknown" : i < column.line ? "active" : "candidate");

/** Bring a tile in line with the line and the decisions; touches nothing that stays as it is. */
function drawTile(node, i) {
  const [band, mark, isPending, isSelected] = [bandOf(i), WORDS[column.marks[i]], column.isPending(i), selection.has(i)];
  const key = `${band} ${mark} ${isPending} ${isSelected} ${i === at}`;
  if (node.drawn === key) return;
  node.drawn = key;
  Object.assign(node.dataset, { band, mark, pending: isPending });
  node.tabIndex = i === at ? 0 : -1;
  node.ariaSelected = isSelected;
  node.lastChild.lastChild.textContent = band === "untagged" ? SAID.untagged : saidOf(i);
  if (node.ariaLabel) node.ariaLabel = nameOf(i);
}

const saidOf = (i) => (column.isPending(i) && !column.marks[i] ? UNDECIDED : SAID[WORDS[column.marks[i]]] ?? "");

const nameOf = (i) => [column.names[i], scoreOf(i), SAID[bandOf(i)], saidOf(i), column.isPending(i) ? NOT_SAVED : ""].filter(Boolean).join(", ");

const shownTiles = () => rail.querySelectorAll("[data-index]");

function drawTiles() {
  for (const tile of shownTiles()) drawTile(tile, Number(tile.dataset.index));
}

/** The address of a thumbnail; a replaced file has another digest, so the browser does not show what it kept of the old one. */
function pictureOf(i) {
  const [first, second] = column.digest(i);
  return `albums/${column.album}/${column.places[i]}/thumbnail?${first}${second}`;
}

/** The line runs under the last active tile, around it, and over the first candidate. */
function drawLine() {
  const [row, inRow] = [rowOf(column.line), column.line % columns];
  const [top, x] = [row * pitch - GAP / 2, inRow * (tileWidth + GAP) - GAP / 2];
  const pieces = inRow
    ? [[0, top + pitch, x, 0], [x, top, 0, pitch], [x, top, width - x, 0]]
    : [[0, top, width, 0]];
  lines.forEach((line, i) => {
    line.hidden = !pieces[i] || !column.isKnown;
    if (line.hidden) return;
    const [left, y, across, down] = pieces[i];
    line.style.transform = `translate(${left - 1}px, ${y - 1}px)`;
    line.style.width = `${across + 2}px`;
    line.style.height = `${down + 2}px`;
  });
}

/** Scroll so that the line is in sight. */
function followLine() {
  const y = rowOf(column.line) * pitch;
  const { scrollTop, clientHeight } = scroller;
  if (y < scrollTop + GAP || y > scrollTop + clientHeight - pitch) scroller.scrollTop = y - clientHeight / 2;
}

/** Make a tile the one that Tab reaches, and bring it into sight. */
function goTo(i, withFocus = true) {
  at = Math.min(Math.max(i, 0), column.length - 1);
  const y = rowOf(at) * pitch;
  const { scrollTop, clientHeight } = scroller;
  if (y < scrollTop) scroller.scrollTop = y;
  else if (y + pitch > scrollTop + clientHeight) scroller.scrollTop = y + pitch - clientHeight;
  drawRows();
  drawTiles();
  if (withFocus) tileAt(at)?.focus({ preventScroll: true });
}

rail.addEventListener("pointerover", ({ target }) => {
  const tile = target.closest(".tile");
  if (tile) tile.title = column.names[tile.dataset.index];
});
let isWaiting = false;
scroller.addEventListener("scroll", () => {
  if (isWaiting) return;
  isWaiting = true;
  requestAnimationFrame(() => {
    isWaiting = false;
    drawRows();
  });
});
