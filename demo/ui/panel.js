// Shared by the panels: find nodes, make nodes, redraw on every push.
const find = (selector) => element.querySelector(selector);
const named = (name) => find(`[data-testid="${name}"]`);

/** A new element with properties and children; strings become text. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Call `draw` with the value now and after every push. */
function drawing(draw) {
  const drawValue = () => props.value && draw(props.value);
  watch("value", drawValue);
  drawValue();
}

