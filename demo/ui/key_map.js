// The map of keys: a dialog that "?" opens wherever nobody is typing. Each part of the page that has keys adds a section
// to it, and the map shows the sections of those parts that are on the screen.

/**
 * Tell of a part's keys. `node` is the part; `keys` are pairs such as ["Ctrl Z", "Undo"], "–" standing between the ends
 * of a range. The same title again replaces the section.
 */
function addKeys(title, node, keys) {
  if (!window.tagloopKeys) {
    window.tagloopKeys = new Map();
    document.addEventListener("keydown", (event) => {
      if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      event.preventDefault();
      openKeyMap();
    });
  }
  window.tagloopKeys.set(title, { node, keys });
}

/** Whether letters belong to this node and are no commands. */
function isTyping(node) {
  return node.matches("textarea, select, [contenteditable], input:not([type=range], [type=checkbox], [type=radio])");
}

/** Open it, or close it where it is open. */
function openKeyMap() {
  const other = document.querySelector("dialog[open]");
  if (other) return other.matches(".key-map") && other.close();
  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const keyed = (key) => (key === "–" ? " – " : make("kbd", { textContent: key }));
  const close = make("button", { type: "button", textContent: tr("Close") });
  const dialog = make("dialog", { className: "key-map" }, make("header", {}, make("h2", { textContent: tr("Keys") }), close));
  dialog.dataset.testid = "key-map";
  dialog.ariaLabel = tr("Keys");
  dialog.lang = language;
  for (const [title, { node, keys }] of window.tagloopKeys) {
    if (!node.isConnected || !node.checkVisibility()) continue;
    const lines = keys.map(([names, does]) =>
      make("div", {}, make("dt", {}, ...names.split(" ").map(keyed)), make("dd", { textContent: does })),
    );
    dialog.append(make("section", { ariaLabel: title }, make("h3", { textContent: title }), make("dl", {}, ...lines)));
  }
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
  dialog.addEventListener("close", () => dialog.remove());
  (document.querySelector(".gradio-container") ?? document.body).append(dialog);
  dialog.showModal();
}

