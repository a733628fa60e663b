// In the head of the page, before gradio draws anything. It has zh-CN and zh-TW alone, and would be English in a browser of
// any other Chinese: what it asks for once, such as the name of a tab, is Chinese in its English; the rest follows.
(async () => {
  const [language, texts] = [navigator.language, window.tagloopChinese];
  if (!/^zh\b/i.test(language) || /^zh-(CN|TW)$/.test(language)) return;
  const core = performance.getEntriesByType("resource").find(({ name }) => /\/core-[\w-]+\.js$/.test(name));
  if (!core) return; // another gradio; our own texts are Chinese without it
  const { load_translations, changeLocale } = await import(core.name);
  load_translations({ custom_translations: { en: texts } });
  changeLocale(/^zh-(TW|HK|MO|Hant)\b/i.test(language) ? "zh-TW" : "zh-CN");
})();
