"""The keyboard alone: digits, commands, the map of keys; what a screen reader is told; less motion where asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import demo.ui
from demo.thresholds import mcut
from demo.ui.tag_editor import EditorState, Status
from tests.browser.conftest import serving
from tests.browser.editor_bench import CONTRASTS, CURVE, SKY, Bench, Editor, open_editor, state

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load
FOLDER = Path(demo.ui.__file__).parent
STYLE = (FOLDER / "key_map.css").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with serving() as serve:
        yield Bench(lambda blocks: serve(blocks, css=STYLE))


def key_map(page: Page) -> Locator:
    return page.get_by_role("dialog", name="Keys")


def hinted(editor: Editor) -> list[str]:
    """The chips with a digit that can be seen."""
    return editor.root.locator(".chip").evaluate_all(
        "chips => chips.filter(chip => !['none', ''].includes(getComputedStyle(chip, '::after').display)"
        " && getComputedStyle(chip, '::after').content !== 'none').map(chip => chip.dataset.label)"
    )


def test_digits_turn_the_first_nine_labels_on_and_off(editor: Editor) -> None:
    names = [f"label {i}" for i in range(12)]
    editor.push(EditorState("twelve", names, np.linspace(0.9, 0.2, 12, dtype=np.float32), 0.5))
    editor.root.focus()
    editor.press("1", "7", "9")
    editor.expect_state("label 0", "rejected")
    editor.expect_state("label 6", "rejected")
    editor.expect_state("label 8", "confirmed")
    editor.press("9", "0")
    editor.expect_state("label 8", "candidate")
    expect(editor.chip("label 8")).to_have_attribute("aria-keyshortcuts", "9")
    expect(editor.root.locator(".chip[data-digit]")).to_have_count(9)
    expect(editor.root).to_be_focused()
    editor.slide(0.87)
    editor.root.focus()
    editor.press("2")
    editor.expect_state("label 1", "confirmed")
    decisions = editor.save()
    assert (decisions.confirmed, decisions.rejected) == (("label 1",), ("label 0", "label 6"))


def test_digits_reach_the_chips_that_are_seen_over_all_groups_and_bands(editor: Editor) -> None:
    editor.push(
        EditorState(
            "groups",
            ["miku", "safe", "sky", "risky"],
            np.float32([0.9, 0.2, 0.8, 0.7]),
            0.35,
            categories=["character", "rating", "general", "rating"],
            exclusive={"rating"},
            confirmed=["brand new"],
        )
    )
    seen = editor.root.locator(".chip").evaluate_all(
        "chips => chips.map(chip => [chip.dataset.digit, chip.dataset.label])"
    )
    assert seen == [["1", "risky"], ["2", "safe"], ["3", "miku"], ["4", "sky"], ["5", "brand new"]]
    editor.root.focus()
    editor.press("2", "9")
    editor.expect_state("safe", "confirmed")
    editor.expect_state("risky", "rejected")


def test_digits_are_shown_while_keys_are_in_use_and_digits_typed_into_a_field_stay_text(editor: Editor) -> None:
    editor.push(state())
    editor.chip("cat").click()
    assert hinted(editor) == []
    editor.press("ArrowRight")
    assert hinted(editor) == list(SKY)
    before = editor.chip("sky").bounding_box()
    editor.press("/")
    editor.page.keyboard.type("12?")
    expect(editor.field).to_have_value("12?")
    assert hinted(editor) == []
    assert editor.chip("sky").bounding_box() == before, "a hint takes no room"
    expect(key_map(editor.page)).to_have_count(0)
    editor.expect_state("sky", "active")


def test_an_image_is_labelled_saved_and_left_by_the_keyboard_alone(editor: Editor) -> None:
    editor.push(state(curve=CURVE, thresholds=[0.7] * len(SKY)))
    for _ in range(40):
        editor.press("Tab")
        if editor.page.evaluate("document.activeElement.matches('.chip')"):
            break
    editor.press("3", "/")
    editor.page.keyboard.type("brand new")
    editor.press("Enter", "Escape", "b")
    expect(editor.slider).to_have_value("0.5")
    before = len(editor.bench.saved)
    editor.press("m", "a")
    decisions = editor.delivered(before)
    assert decisions.threshold == mcut(np.float32(state().scores))
    assert (decisions.rejected, decisions.new, decisions.reviewed) == (("cat",), ("brand new",), "all")
    editor.press("t")
    expect(editor.page.get_by_role("switch")).to_be_checked()
    editor.press("b")
    expect(editor.slider).to_have_value("0.35")
    with editor.page.expect_response("**/queue/data**"):
        editor.press("n")
    assert editor.bench.nexts == 1


def test_a_question_mark_opens_the_map_and_esc_gives_the_focus_back(editor: Editor) -> None:
    editor.push(state())
    editor.chip("cat").focus()
    editor.press("?")
    expect(key_map(editor.page)).to_be_visible()
    section = key_map(editor.page).get_by_role("region", name="Tag editor")
    expect(section).to_contain_text("Turn one of the first nine labels on or off")
    editor.press("s", "1", "n")
    editor.page.get_by_role("heading", name="Keys").press("a")
    editor.press("Escape")
    expect(key_map(editor.page)).to_have_count(0)
    expect(editor.chip("cat")).to_be_focused()
    assert (editor.bench.saved, editor.bench.nexts) == ([], 0)
    editor.expect_state("sky", "active")
    editor.page.get_by_role("button", name="outside").focus()
    editor.press("?", "?")
    expect(key_map(editor.page)).to_have_count(0)
    expect(editor.page.get_by_role("button", name="outside")).to_be_focused()
    editor.page.get_by_test_id("show-keys").click()
    key_map(editor.page).get_by_role("button", name="Close").click()
    expect(key_map(editor.page)).to_have_count(0)


def test_every_key_of_the_map_is_one_that_acts(editor: Editor) -> None:
    editor.push(state(curve=CURVE))
    editor.root.focus()
    editor.press("?")
    told = set(key_map(editor.page).locator("kbd").all_inner_texts())
    commands = {"b", "m", "t", "s", "a", "d", "Shift", "D", "n", "p", "/", "[", "]"}
    assert told == commands | {"1", "9", "←", "→", "↑", "↓", "Space", "Ctrl", "Z"}


@pytest.mark.parametrize(("key", "reviewed"), [("d", "listed"), ("Shift+D", "all")])
def test_a_key_saves_and_goes_on(editor: Editor, key: str, reviewed: str) -> None:
    editor.push(state())
    editor.root.focus()
    with editor.page.expect_request(lambda request: '"event_data":{"turn"' in (request.post_data or "")):
        editor.press("1", key)
    [decisions] = editor.bench.saved
    assert (decisions.reviewed, decisions.rejected) == (reviewed, ("sky",))


@pytest.mark.parametrize(
    ("held", "moves"), [("", True), ("alt", True), ("ctrl alt", True), ("ctrl", False), ("meta", False)]
)
def test_brackets_act_whatever_the_layout_makes_them_with(editor: Editor, held: str, moves: bool) -> None:
    editor.push(state())
    modifiers = {f"{name}Key": True for name in held.split()}
    editor.root.dispatch_event("keydown", {"key": "[", **modifiers})
    expect(editor.slider).to_have_value("0.34" if moves else "0.35")
    editor.root.dispatch_event("keydown", {"key": "]", **modifiers})
    expect(editor.slider).to_have_value("0.35")


def test_numbers_that_change_with_the_slider_are_not_read_beside_the_announcer(editor: Editor) -> None:
    names = ["miku", "sky"]
    editor.push(EditorState("groups", names, np.float32([0.9, 0.8]), 0.35, categories=["character", "general"]))
    numbers = editor.root.get_by_role("status").and_(editor.root.locator("output"))
    expect(numbers).to_have_count(6)  # of the page and two groups
    for number in numbers.all():
        expect(number).to_have_attribute("aria-live", "off")


def test_other_parts_of_the_page_add_their_keys_while_they_are_on_the_screen(
    page: Page, serve: Callable[..., str]
) -> None:
    script = "".join((FOLDER / name).read_text(encoding="utf-8") for name in ("words.js", "key_map.js"))
    ready = 'element.dataset.ready = "";'  # some time after it can be seen
    with gr.Blocks() as blocks:
        hide = gr.Button("hide")
        with gr.Column() as column:
            gr.HTML("<p>grid</p>", js_on_load=script + 'addKeys("Grid", element, [["x", "Flip <b>it</b>"]]);' + ready)
        gr.HTML("<p>strip</p>", js_on_load=script + 'addKeys("Filmstrip", element, [["← –", "Go"]]);' + ready)
        gr.Textbox(label="typing")
        hide.click(lambda: gr.Column(visible=False), None, column, show_progress="hidden")
    page.goto(serve(blocks))
    expect(page.locator("[data-ready]")).to_have_count(2)
    page.keyboard.press("?")
    expect(key_map(page).locator("h3")).to_have_count(2)
    assert {*key_map(page).locator("h3").all_inner_texts()} == {"Grid", "Filmstrip"}  # as they came
    expect(key_map(page)).to_contain_text("Flip <b>it</b>")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="hide").click()
    expect(page.get_by_text("grid")).to_have_count(0)
    page.keyboard.press("?")
    expect(key_map(page).locator("h3")).to_have_text(["Filmstrip"])
    page.keyboard.press("Escape")
    page.get_by_label("typing").press_sequentially("?")
    expect(page.get_by_label("typing")).to_have_value("?")
    expect(key_map(page)).to_have_count(0)


def test_a_screen_reader_is_told_what_became_of_a_label_and_how_many_are_active(editor: Editor) -> None:
    editor.push(state())
    said = editor.root.locator("[aria-live=polite]")
    expect(said).to_have_text("4 labels active")
    editor.root.focus()
    editor.press("3")
    expect(said).to_have_text("cat rejected. 3 labels active")
    editor.press("5")
    expect(said).to_have_text("tree confirmed. 4 labels active")


@pytest.mark.parametrize("width", [1440, 390])
def test_everything_that_can_be_worked_has_a_name(page: Page, bench: Bench, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    editor = open_editor(page, bench)
    editor.push(state(curve=CURVE, thresholds=[0.7] * len(SKY)))
    for control in editor.root.locator("button, input, [role=img]").all():
        if control.is_visible():
            expect(control).to_have_accessible_name(re.compile(r"\w"))
    expect(editor.slider).to_have_accessible_name("Threshold")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_has_aa_contrast(page: Page, bench: Bench, theme: str) -> None:
    open_editor(page, bench, theme)
    page.keyboard.press("?")
    ratios = key_map(page).evaluate(CONTRASTS)
    assert len(ratios) >= 5
    for name, ratio in ratios.items():
        assert ratio >= 4.5, f"{name}: {ratio:.2f}"


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_where_less_motion_is_asked_for(browser: Browser, bench: Bench, motion: str) -> None:
    with browser.new_context(reduced_motion=motion) as context:
        editor = open_editor(context.new_page(), bench)
        editor.push(Status("busy", "Tagging…"), "busy")
        running = "root => root.getAnimations({ subtree: true }).filter(each => each.playState === 'running').length"
        assert editor.root.evaluate(running) == (motion == "no-preference")
        assert editor.page.get_by_test_id("save").evaluate("node => getComputedStyle(node).transitionDuration") == (
            "0s" if motion == "reduce" else "0.12s"
        )
