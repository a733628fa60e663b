"""All text of the page in each of its tabs, light and dark, stands out from what is behind it (WCAG 2.1 AA)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.editor_bench import CONTRAST
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load

FAINT = (
    """() => {"""
    + CONTRAST
    + """
  const faint = {};
  let seen = 0;
  for (const node of document.querySelectorAll('.gradio-container *')) {
    const has = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
    const words = has ? node.innerText : node.matches('input:not([type=range], [type=checkbox])') ? node.value : '';
    if (!words?.trim() || !node.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (node.closest(':disabled, [aria-disabled=true], svg, footer:not(.foot, .bar)')) continue;
    const box = node.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;  // for screen readers
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const wanted = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = contrast(node);
    seen += 1;
    if (ratio < wanted) faint[`${node.tagName}.${node.className} ${words.slice(0, 40)}`] = ratio.toFixed(2);
  }
  return [seen, faint];
}"""
)
"""How many pieces of text there are to see, and those with less contrast than AA wants. The footer is gradio's."""


SWITCH = """async (dark) => {
  document.body.classList.toggle('dark', dark);
  document.body.offsetWidth;
  await Promise.all(document.getAnimations().filter((one) => one instanceof CSSTransition).map((one) => one.finished));
}"""


def test_all_text_of_every_tab_stands_out(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    image_folder: Path,
) -> None:
    (image_folder / "9.png").write_bytes(b"no picture")
    site = Site(page, serve, tmp_path, tiny_checkpoint, images=image_folder)
    expect(site.chips.first).to_be_visible()
    expect(page.locator(".film .work")).to_be_hidden()
    expect(page.locator(".film .reasons")).to_be_visible()
    site.chips.first.click()
    site.save()

    def check(name: str, least: int) -> None:
        page.mouse.move(0, 0)
        for is_dark in (False, True):
            page.evaluate(SWITCH, is_dark)
            seen, faint = page.evaluate(FAINT)
            assert faint == {}, f"{name}, dark: {is_dark}"
            assert seen >= least, f"{name}: {seen}"

    check("Tag", 30)
    site.tab("Grid")
    expect(site.id("grid")).to_have_attribute("data-view", "ready")
    site.id("grid").locator("[data-index]").first.click()
    check("Grid", 20)
    site.tab("Corrections")
    expect(site.id("corrections").locator("tbody tr")).to_have_count(1)
    check("Corrections", 20)
    site.tab("Retrain")
    expect(site.id("retrain")).to_be_visible()
    check("Retrain", 8)
