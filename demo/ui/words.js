// The words of the page, English or Chinese by the browser's language, and gradio's own components with them.
// English is the key of each text; `chinese.json` is in the head of the page.
const chinese = /^zh\b/i.test(navigator.language) ? window.tagloopChinese : undefined;
const language = chinese ? "zh-CN" : "en";

/** A text, its {names} filled from `values`; whole numbers are written as the language writes them. */
function tr(text, values) {
  return filled(chinese?.[text] ?? text, values);
}

/** A text about `count` of something; {count} is among the values. Chinese has one form for any number. */
tr.many = (count, one, several, values) => tr(count === 1 && !chinese ? one : several, { count, ...values });

/** What Python says: a text that stays as it is, such as an error, or a `Message`. */
function told(message) {
  if (typeof message !== "object" || message === null) return message ?? "";
  const { said, template, values } = message;
  return chinese?.[template] ? filled(chinese[template], values) : said;
}

function filled(text, values) {
  return values ? text.replace(/\{(\w+)\}/g, (hole, name) => (name in values ? written(values[name]) : hole)) : text;
}

function written(value) {
  if (Number.isInteger(value)) return value.toLocaleString(language);
  return typeof value === "object" ? told(value) : value;
}

/** Translate what stands in the html, once. */
function translate(node) {
  const texts = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { data } = texts.currentNode;
    const text = data.trim();
    if (chinese[text]) texts.currentNode.data = data.replace(text, () => chinese[text]);
  }
  for (const inner of node.querySelectorAll("[title], [placeholder], [aria-label]"))
    for (const name of ["title", "placeholder", "aria-label"])
      if (chinese[inner.getAttribute(name)]) inner.setAttribute(name, chinese[inner.getAttribute(name)]);
  for (const template of node.querySelectorAll("template")) translate(template.content);
}

/** Whether a key is the input method's: Enter takes what it offers then. Safari tells the last one by its code alone. */
const isComposing = (event) => event.isComposing || event.keyCode === 229;

element.lang = language;
if (chinese) {
  document.documentElement.lang = language;
  translate(element);
}

