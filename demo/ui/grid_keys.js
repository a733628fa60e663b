// The grid by keyboard. Uses what grid.js has, which follows.

const MOVES = {
  ArrowLeft: () => at - 1,
  ArrowRight: () => at + 1,
  ArrowUp: () => (at >= columns ? at - columns : at),
  ArrowDown: () => (at + columns < column.length ? at + columns : at),
  Home: () => 0,
  End: () => column.length - 1,
  PageUp: () => at - columns * Math.max(1, Math.floor(scroller.clientHeight / pitch)),
  PageDown: () => at + columns * Math.max(1, Math.floor(scroller.clientHeight / pitch)),
};
const ANYWHERE = {
  "/": () => labelField.focus(),
  s: saveAll,
  c: () => !confirmAll.hidden && confirmOpen(),
  "[": () => moveLine(Number(slider.value) - STEP),
  "]": () => moveLine(Number(slider.value) + STEP),
  Escape: unselect,
};
const ON_TILES = {
  " ": () => (selection.size ? unselect() : flip(at)),
  Enter: () => (selection.size ? unselect() : flip(at)),
  y: () => sweep(CONFIRMED),
  x: () => sweep(REJECTED),
  Delete: () => sweep(NONE),
  Backspace: () => sweep(NONE),
};

function key(event) {
  const isCommand = event.ctrlKey || event.metaKey;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.target === labelField || !column || root.dataset.view !== "ready") return;
  const isTile = event.target === root || event.target.matches(".tile");
  if (isCommand && (name === "z" || name === "y")) {
    const button = name === "y" || event.shiftKey ? redo : undo;
    if (!button.disabled) step(button === redo ? "redo" : "undo");
  } else if (isCommand || event.altKey) {
    return;
  } else if (MOVES[name] && isTile && column.length) {
    if (!event.shiftKey) {
      unselect();
      goTo(event.target === root ? at : MOVES[name]());
      anchor = at;
    } else {
      if (!selection.size) anchor = at;
      goTo(MOVES[name]());
      select(at);
    }
  } else if (ON_TILES[name] && isTile && column.length) {
    ON_TILES[name]();
  } else if (ANYWHERE[name]) {
    ANYWHERE[name]();
  } else return;
  event.preventDefault();
}

function tellKeys() {
  addKeys(tr("Grid"), root, [
    ["← → ↑ ↓", tr("Go over the photos; with Shift, select a range")],
    ["Home – End", tr("The highest and the lowest score")],
    ["Space", tr("Flip: reject an active photo, confirm a candidate; again takes it back")],
    ["y", tr("Confirm, and on to the next; or all that are selected")],
    ["x", tr("Reject, and on to the next; or all that are selected")],
    ["c", tr("Confirm all above the line, after a look at them")],
    ["Delete", tr("No decision")],
    ["[ ]", tr("Move the threshold")],
    ["/", tr("Another label")],
    ["Ctrl Z", tr("Undo; with Shift, redo")],
    ["s", tr("Save")],
    ["Esc", tr("Drop the selection")],
  ]);
}
