// Shared by the panels: find nodes, make nodes, redraw on every push.
const find = (selector) => element.querySelector(selector);
const named = (name) => find(`[data-testid="${name}"]`);

/** A new element with properties and children; strings become text. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Call `draw` with the value now and after every push; not with one that is older than what is shown. */
function drawing(draw) {
  let last = 0;
  const drawValue = () => {
    if (!(props.value?.revision >= last)) return; // an event's answer comes twice, the second time when it has ended
    last = props.value.revision;
    draw(props.value);
  };
  watch("value", drawValue);
  drawValue();
}

