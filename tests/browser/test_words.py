"""The page in a browser that is Chinese, and in one that is neither English nor Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from demo.comparison import summary
from demo.ui.words import CHINESE
from tests.browser.test_page import Site, save_some
from tests.browser.test_retrain_tab import Staged, finished

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load

SEEN = """() => {
  const found = [];
  const isSeen = (node) =>
    node.checkVisibility({ visibilityProperty: true, opacityProperty: true }) &&
    !node.closest("kbd, script, style, bdi, [data-example]");
  for (const node of document.querySelectorAll(".gradio-container *")) {
    if (!isSeen(node)) continue;
    for (const child of node.childNodes) if (child.nodeType === Node.TEXT_NODE) found.push(child.data);
    for (const name of ["title", "placeholder", "aria-label"]) found.push(node.getAttribute(name) ?? "");
  }
  return found.map((text) => text.trim()).filter(Boolean);
}"""
NAMES = re.compile(
    r"TagLoop|Hugging Face ImageFolder|fastai|JSON|CSV|MCut|mAP|F1|owner/name|Hub|UTC|Ctrl|Shift|Home|End|Enter|Esc|"
    r"metadata\.csv|corrections\.csv|\.txt|\bzip\b|\bAPI\b|\bcpu\b|\bfp32\b|\bms\b|\bpx\b|\bMB\b|\btiny\b|local:\S+|runs/one"
)
"""What stays as it is in any language: names of things, files, keys and units."""
OF_GRADIO = {
    "Upload file",
    "Capture from camera",
    "Paste from clipboard",
    "Fullscreen",
    "Remove Image",
    "Gradio footer navigation",
}
"""Names of gradio's own buttons, which it does not translate."""


@pytest.fixture
def locale(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "zh-CN")


@pytest.fixture
def site(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Site]:
    site = Site(page, serve, tmp_path, tiny_checkpoint, Staged)
    yield site
    site.retraining.cancel()


def english(site: Site) -> list[str]:
    """Texts on the screen with a Latin word that is no name, no label and no file."""
    names = sorted(site.names, key=len, reverse=True)
    left = []
    for text in set(site.page.evaluate(SEEN)) - OF_GRADIO:
        rest = re.sub(r"[\w-]+\.(png|jpg)\b", "", NAMES.sub("", text.replace(str(site.folder), "")))
        for name in names:
            rest = rest.replace(name, "")
        if re.search("[A-Za-z]{2}", rest):
            left.append(text)
    return left


def tab(site: Site, name: str) -> None:
    site.page.get_by_role("tab", name=CHINESE[name], exact=True).click()


def test_the_empty_page_and_an_image_speak_chinese(site: Site, make_image: Callable[..., bytes]) -> None:
    expect(site.page.get_by_role("tab")).to_have_text(
        [CHINESE[name] for name in ("Tag", "Grid", "Corrections", "Retrain")]
    )
    expect(site.page.locator("#image")).to_contain_text(
        CHINESE["Drop or paste an image\n- or -\nclick to choose one"].split("\n")[0]
    )
    expect(site.id("tag-editor")).to_contain_text(CHINESE["No image yet. Its labels will appear here."])
    assert english(site) == []
    assert site.page.evaluate("document.documentElement.lang") == "zh-CN"
    site.upload_and_wait(make_image(1))
    site.chips.first.click()
    site.id("add-label").fill("brand new")
    expect(site.id("tag-editor").locator("[role=option]")).to_contain_text(CHINESE["add as a new label"])
    assert [text for text in english(site) if text != "brand new"] == []
    site.page.keyboard.press("Escape")
    site.id("add-label").fill("")
    site.save()
    expect(site.id("status")).to_have_text(re.compile("^已保存，.*标签，否决 1 个。$"))
    assert english(site) == []


def test_the_map_of_keys_and_the_facts_of_the_model_speak_chinese(site: Site) -> None:
    site.pick("cat")
    site.id("tag-editor").focus()
    site.page.keyboard.press("?")
    expect(site.id("key-map")).to_contain_text(CHINESE["Tag editor, while it has the focus"])
    assert english(site) == []
    site.page.keyboard.press("Escape")
    site.page.locator(".model-box .about").click()
    expect(site.page.locator(".look")).to_contain_text(CHINESE["Licence"])
    look = site.page.locator(".look p").all_inner_texts()  # the first words of a model's card are its own
    assert [text for text in english(site) if text not in look and "vit" not in text.lower()] == []


def test_grid_corrections_and_retrain_speak_chinese(site: Site, make_image: Callable[..., bytes]) -> None:
    tab(site, "Corrections")
    expect(site.id("corrections")).to_contain_text(CHINESE["Nothing is saved yet."])
    assert english(site) == []
    save_some(site, make_image, 4)
    tab(site, "Grid")
    site.id("grid").locator("[data-band=active], [data-band=candidate]").first.click()
    expect(site.id("grid-save")).to_be_enabled()
    assert english(site) == []
    tab(site, "Corrections")
    expect(site.id("label-figures").locator("li").first).to_be_visible()
    site.id("exports").locator("summary").click()
    assert english(site) == []
    tab(site, "Retrain")
    expect(site.page.locator(".retrain .plan p")).to_contain_text("目前已修正 4 张图片")
    assert english(site) == []
    run = site.retraining.run = finished(site, "worse")
    run.metrics["summary"] = str(summary(run.metrics["comparison"]))  # as a fine-tune writes it
    tab(site, "Tag")
    tab(site, "Retrain")
    expect(site.page.locator(".verdict b")).to_have_text(CHINESE["Worse"])
    expect(site.page.locator(".retrain .warnings")).to_have_text("mAP 下降了 3.0 个百分点。")
    assert english(site) == []


@pytest.mark.parametrize(
    "locale",
    ["zh-Hans-CN", "zh-HK", *(pytest.param(name, marks=pytest.mark.slow) for name in ("zh", "zh-SG", "zh-Hant-TW"))],
    indirect=True,
)
def test_every_chinese_is_chinese(site: Site, locale: str) -> None:
    expect(site.page.get_by_role("tab")).to_have_text(
        [CHINESE[name] for name in ("Tag", "Grid", "Corrections", "Retrain")]
    )
    expect(site.id("tag-editor")).to_contain_text(CHINESE["No image yet. Its labels will appear here."])
    assert english(site) == []


def test_enter_that_an_input_method_takes_loads_no_model_and_chooses_no_label(
    site: Site, make_image: Callable[..., bytes]
) -> None:
    model = site.id("model").locator("input")
    model.fill("nothing of that name")
    for composing in ({"isComposing": True}, {"keyCode": 229}):
        model.dispatch_event("keydown", {"key": "Enter", **composing})
        expect(model).to_have_value("nothing of that name")
        expect(site.page.locator(".model-box .loading")).to_be_hidden()
    model.fill("")
    save_some(site, make_image, 4)
    tab(site, "Grid")
    field = site.id("grid-label")
    expect(site.id("grid").locator(".tile").first).to_be_visible()
    chosen = field.input_value()
    field.focus()
    other = next(name for name in site.names if name != chosen)
    field.fill(other)
    expect(field).to_have_attribute("aria-expanded", "true")
    for composing in ({"isComposing": True}, {"keyCode": 229}):
        field.dispatch_event("keydown", {"key": "Enter", **composing})
        expect(field).to_have_attribute("aria-expanded", "true")
    field.press("Enter")
    expect(field).to_have_attribute("aria-expanded", "false")


@pytest.mark.parametrize("locale", ["de-DE"], indirect=True)
def test_any_other_language_gets_english(site: Site) -> None:
    expect(site.page.get_by_role("tab")).to_have_text(["Tag", "Grid", "Corrections", "Retrain"])
    expect(site.page.locator("#image")).to_contain_text("Drop or paste an image")
    expect(site.id("tag-editor")).to_contain_text("No image yet. Its labels will appear here.")
    expect(site.id("save")).to_have_text("Save")
    assert not re.search("[\u4e00-\u9fff]", " ".join(site.page.evaluate(SEEN)))
    assert site.id("tag-editor").evaluate("node => node.closest('[lang]').lang") == "en"
