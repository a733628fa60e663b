// First in the page, before any module of gradio's. It has zh-CN and zh-TW alone, and is English in a browser of any other
// Chinese.
{
  const { language } = navigator;
  if (/^zh\b/i.test(language) && !/^zh-(CN|TW)$/.test(language))
    Object.defineProperty(navigator, "language", { value: /^zh-(TW|HK|MO|Hant)\b/i.test(language) ? "zh-TW" : "zh-CN" });
}
