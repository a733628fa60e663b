"""The tag editor in a real browser, on made-up scores."""

from __future__ import annotations

import base64
import time

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Dialog, Page, expect

from demo.own_curve import OwnCurve
from demo.thresholds import Curve
from demo.ui.tag_editor import Decisions, EditorState, Status, TagEditor
from tests.browser.editor_bench import CONTRASTS, CURVE, SKY, SWEEP, Bench, Editor, held, made_up, open_editor, state
from tests.waiting import until


@pytest.mark.parametrize("labels", [20, 10_861])
def test_the_count_is_numpys_at_every_stop_of_the_slider_and_no_request_leaves(editor: Editor, labels: int) -> None:
    pushed = made_up(labels)
    editor.push(pushed)
    requests: list[str] = []
    editor.page.on("request", lambda request: requests.append(request.url))
    counts, chips = editor.root.evaluate(SWEEP)
    assert counts == [int((pushed.scores >= step / 1000).sum()) for step in range(1001)]
    assert max(chips) <= 300
    assert requests == []


def test_the_count_with_tuned_thresholds_is_pythons_at_every_stop(editor: Editor) -> None:
    pushed = made_up(500)
    tuned = np.random.default_rng(1).uniform(0.1, 0.9, 500).round(2)
    editor.push(EditorState(pushed.key, pushed.names, pushed.scores, 0.4, thresholds=[None, *tuned[1:].tolist()]))
    editor.page.get_by_role("switch").check()
    counts, _ = editor.root.evaluate(SWEEP)
    each = np.float32([0.4, *tuned[1:]]).astype(np.float64)
    assert counts == [int((pushed.scores - each >= step / 1000 - 0.4).sum()) for step in range(1001)]
    assert counts[400] == int((pushed.scores >= each).sum()), "at the recommended threshold nothing is shifted"
    editor.slide(0.45)
    decisions = editor.save()
    assert decisions.tuned
    assert len(decisions.model_labels) == counts[450]


def test_the_tuned_switch_is_there_only_with_tuned_thresholds(editor: Editor) -> None:
    editor.push(state())
    expect(editor.page.get_by_role("switch")).to_be_hidden()
    editor.push(state(thresholds=[0.5] * len(SKY)))
    expect(editor.page.get_by_role("switch")).to_be_visible()
    expect(editor.count).to_have_text("4")
    editor.page.get_by_role("switch").check()
    expect(editor.count).to_have_text("3")


def test_labels_at_the_threshold_are_active_and_those_below_are_candidates(editor: Editor) -> None:
    editor.push(state())
    expect(editor.count).to_have_text("4")
    editor.expect_state("long_hair", "active")
    editor.expect_state("tree", "candidate")
    score = float(editor.chip("long_hair").get_attribute("data-score"))
    assert np.float32(score) == np.float32(0.35)
    expect(editor.chip("long_hair")).to_contain_text("0.35")
    editor.slide(0.351)
    editor.expect_state("long_hair", "candidate")


def test_a_second_click_takes_a_decision_back(editor: Editor) -> None:
    editor.push(state())
    for name, states, counts in (("cat", ("rejected", "active"), "34"), ("tree", ("confirmed", "candidate"), "54")):
        for expected, count in zip(states, counts, strict=True):
            editor.chip(name).click()
            editor.expect_state(name, expected)
            expect(editor.count).to_have_text(count)


def test_the_slider_never_undoes_or_hides_a_decision(editor: Editor) -> None:
    pushed = made_up(2000)
    editor.push(pushed)
    order = np.argsort(-pushed.scores, kind="stable")
    first, below = pushed.names[order[0]], pushed.names[order[int((pushed.scores >= 0.35).sum())]]
    editor.chip(first).click()
    editor.chip(below).click()
    for threshold in (1, 0.999, 0.5, 0.001, 0, 0.35):
        editor.slide(threshold)
        editor.expect_state(first, "rejected")
        editor.expect_state(below, "confirmed")
        active = pushed.scores >= threshold
        expected = int(active.sum()) - int(active[order[0]]) + int(not active[pushed.names.index(below)])
        expect(editor.count).to_have_text(str(expected))


def test_decisions_beyond_the_first_300_chips_stay_within_300(editor: Editor) -> None:
    pushed = made_up(2000)
    order = np.argsort(-pushed.scores, kind="stable")
    confirmed = [pushed.names[i] for i in order[::5]]
    editor.push(EditorState(pushed.key, pushed.names, pushed.scores, 0.35, confirmed=confirmed))
    _, chips = editor.root.evaluate(SWEEP)
    assert max(chips) <= 300
    editor.slide(0.35)
    active = {pushed.names[i] for i in np.flatnonzero(pushed.scores >= 0.35)}
    expect(editor.count).to_have_text(str(len(active | set(confirmed))))


def test_undo_and_redo_walk_through_the_decisions(editor: Editor) -> None:
    editor.push(state())
    undo, redo = (editor.page.get_by_test_id(name) for name in ("undo", "redo"))
    expect(undo).to_be_disabled()
    expect(redo).to_be_disabled()
    editor.chip("sky").click()
    editor.chip("tree").click()
    editor.field.fill("brand new")
    editor.press("Enter")
    editor.expect_state("brand new", "confirmed")
    undo.click()
    expect(editor.chip("brand new")).to_have_count(0)
    undo.click()
    undo.click()
    expect(undo).to_be_disabled()
    expect(editor.root).to_be_focused()
    editor.expect_state("sky", "active")
    editor.press("Control+Shift+Z")
    editor.expect_state("sky", "rejected")
    editor.press("Control+y")
    editor.expect_state("tree", "confirmed")
    editor.press("Control+z")
    editor.expect_state("tree", "candidate")
    editor.chip("night").click()
    expect(redo).to_be_disabled()


def test_save_delivers_what_is_seen_and_keeps_it(editor: Editor) -> None:
    editor.push(state())
    editor.chip("cat").click()
    editor.chip("river").click()
    editor.field.fill("a new one")
    editor.press("Enter")
    editor.slide(0.7)
    assert editor.save() == Decisions(
        key="sky",
        threshold=0.7,
        labels=("sky", "catfish", "river", "a new one"),
        rejected=("cat",),
        confirmed=("river", "a new one"),
        new=("a new one",),
        model_labels=("sky", "catfish"),
        tuned=False,
        reviewed="listed",
    )
    expect(editor.status).to_have_text("Saved.")
    editor.expect_state("cat", "rejected")
    expect(editor.slider).to_have_value("0.7")
    editor.chip("cat").click()
    expect(editor.status).to_have_attribute("data-state", "")
    again = editor.save("review-all")
    assert (again.reviewed, again.rejected) == ("all", ())
    assert editor.save().reviewed == "listed"


def test_a_failed_save_says_so_and_loses_nothing(editor: Editor) -> None:
    editor.push(state())
    editor.chip("sky").click()
    editor.bench.answer = Status("error", "The disk is full. <b>Free some space</b>.")
    editor.save()
    expect(editor.status).to_have_text("The disk is full. <b>Free some space</b>.")
    editor.expect_state("sky", "rejected")
    editor.bench.answer = Status("saved", "Saved.")
    assert editor.save().rejected == ("sky",)


def test_what_is_saved_while_a_save_is_under_way_is_saved_after_it(editor: Editor) -> None:
    editor.push(state())
    with held(editor.bench) as release:
        editor.chip("sky").click()
        editor.page.get_by_test_id("save").click()
        until(lambda: len(editor.bench.saved) == 1)
        editor.chip("cat").click()
        editor.page.get_by_test_id("review-all").click()
        release()
    expect(editor.status).to_have_text("Saved.")
    until(lambda: len(editor.bench.saved) == 2)
    last = editor.bench.saved[-1]
    assert (last.rejected, last.reviewed) == (("sky", "cat"), "all")


def test_a_save_that_is_acknowledged_under_the_next_image_is_of_the_one_before(editor: Editor) -> None:
    editor.push(state())
    with held(editor.bench) as release:
        editor.chip("sky").click()
        editor.page.get_by_test_id("save").click()
        until(lambda: len(editor.bench.saved) == 1)
        editor.expect_state("sky", "rejected")
        editor.bench.value = state(key="sea")
        push = editor.page.get_by_role("button", name="push")  # `editor.push` waits for a stream, and one is open
        push.click()
        editor.expect_state("sky", "active")
        editor.chip("sky").click()
        release()
    expect(editor.status).to_have_text("Saved.")
    assert editor.page.evaluate("[...tagloopUnsaved.keys()]") == ["sea"]
    editor.chip("sky").click()
    assert editor.page.evaluate("tagloopUnsaved.size") == 0


def test_what_a_server_pushes_that_was_started_again_is_newer_than_what_it_pushed_before() -> None:
    revision = TagEditor().postprocess(Status("note", ""))["revision"]
    assert abs(revision / 1e6 - time.time()) < 24 * 3600, "not by the clock"


def test_earlier_decisions_and_a_note_are_shown(editor: Editor) -> None:
    editor.push(state(confirmed=["night", "gone"], rejected=["sky"], slider=0.5, note="Saved before."))
    editor.expect_state("night", "confirmed")
    editor.expect_state("gone", "confirmed")
    editor.expect_state("sky", "rejected")
    expect(editor.count).to_have_text("4")
    expect(editor.slider).to_have_value("0.5")
    expect(editor.status).to_have_text("Saved before.")


def test_adding_matches_inside_words_and_takes_the_exact_name_first(editor: Editor) -> None:
    editor.push(state())
    editor.field.fill("cat")
    expect(editor.options.locator("bdi")).to_have_text(["cat", "catfish", "education"])
    expect(editor.options.first).to_contain_text("0.60")
    editor.field.fill("duca")
    editor.press("Enter")
    editor.expect_state("education", "confirmed")
    expect(editor.field).to_have_value("")
    expect(editor.field).to_be_focused()
    editor.field.fill("Long Hair")
    expect(editor.options.first.locator("bdi")).to_have_text("long_hair")


def test_the_autocomplete_is_a_combobox(editor: Editor) -> None:
    editor.push(state())
    expect(editor.field).to_have_role("combobox")
    expect(editor.field).to_have_attribute("aria-expanded", "false")
    editor.field.fill("cat")
    expect(editor.field).to_have_attribute("aria-expanded", "true")
    editor.press("ArrowDown", "ArrowDown", "ArrowUp", "ArrowUp", "ArrowUp")
    marked = editor.page.locator("[role=option][aria-selected=true]")
    expect(marked.locator("bdi")).to_have_text("education")
    expect(editor.field).to_have_attribute("aria-activedescendant", marked.get_attribute("id"))
    editor.press("Escape")
    expect(editor.options).to_have_count(0)
    expect(editor.field).to_have_value("cat")
    expect(editor.field).to_have_attribute("aria-expanded", "false")
    editor.press("ArrowDown")
    editor.options.nth(1).click()
    editor.expect_state("catfish", "confirmed")
    editor.press("Escape")
    expect(editor.root).to_be_focused()


def test_a_label_that_the_model_lacks_is_marked_as_new_and_goes_when_taken_back(editor: Editor) -> None:
    editor.push(state())
    editor.field.fill("  zebra crossing ")
    expect(editor.options).to_have_count(1)
    expect(editor.options.first).to_contain_text("new label")
    editor.press("Enter")
    expect(editor.chip("zebra crossing")).to_contain_text("new")
    expect(editor.count).to_have_text("5")
    editor.slide(0.9)
    editor.expect_state("zebra crossing", "confirmed")
    editor.chip("zebra crossing").click()
    expect(editor.chip("zebra crossing")).to_have_count(0)
    editor.field.fill("y" * 300)
    assert len(editor.field.input_value()) <= 300
    editor.field.fill("")
    editor.field.press_sequentially("z" * 201)
    expect(editor.field).to_have_value("z" * 200)


def test_a_new_label_of_an_earlier_image_is_offered_again_and_one_that_was_taken_back_is_not(editor: Editor) -> None:
    editor.push(state())
    for name in ("night watch", "a Cat café", "nihgt"):
        editor.field.fill(name)
        editor.options.filter(has_text="add as a new label").click()
        editor.expect_state(name, "confirmed")
    editor.chip("nihgt").click()
    editor.push(state(key="sea"))
    editor.field.fill("NIGHT")
    expect(editor.options.locator("bdi")).to_have_text(["night", "night watch", "NIGHT"])
    expect(editor.options.locator("small")).to_have_text(["0.05", "new", "add as a new label"])
    editor.field.fill("night_watch")
    editor.press("Enter")
    expect(editor.chip("night watch")).to_contain_text("new")
    editor.field.fill("a")
    expect(editor.options.locator("bdi").first).to_have_text("a Cat café")
    editor.field.fill("nih")
    expect(editor.options).to_have_text(["nihadd as a new label"])
    editor.push(state(key="lake"))
    editor.field.fill("a")
    expect(editor.options.filter(has_text="new").locator("bdi")).to_have_text(["a Cat café", "night watch", "a"])
    editor.push(state(key="wood", names=["night watch", "sky"], scores=np.float32([0.25, 0.5])))
    editor.field.fill("watch")
    expect(editor.options).to_have_text(["night watch0.25", "watchadd as a new label"])


@pytest.mark.parametrize("composing", [{"isComposing": True}, {"keyCode": 229}], ids=str)
def test_keys_that_an_input_method_takes_add_no_label(editor: Editor, composing: dict[str, object]) -> None:
    editor.push(state())
    editor.field.fill("cat")
    for key in ("ArrowDown", "Enter", "Escape"):
        editor.field.dispatch_event("keydown", {"key": key, **composing})
    expect(editor.options.first).to_have_attribute("aria-selected", "true")
    expect(editor.field).to_have_value("cat")
    editor.expect_state("cat", "active")
    editor.press("Enter")
    editor.expect_state("cat", "confirmed")


def test_an_answer_that_does_not_come_locks_the_editor_for_a_while_only(page: Page, bench: Bench) -> None:
    page.clock.install()
    editor = open_editor(page, bench)
    editor.push(state())
    editor.root.focus()
    editor.press("n", "1")
    editor.expect_state("sky", "active")
    expect(editor.page.get_by_test_id("save")).to_have_js_property("inert", True)
    page.clock.fast_forward(20_000)
    editor.press("1")
    editor.expect_state("sky", "rejected")
    editor.chip("cat").click()
    editor.expect_state("cat", "rejected")


def test_the_keyboard_is_enough(editor: Editor) -> None:
    editor.push(state())
    editor.root.focus()
    editor.press("ArrowRight")
    expect(editor.chip("sky")).to_be_focused()
    editor.press("ArrowRight", "Space")
    editor.expect_state("catfish", "rejected")
    expect(editor.chip("catfish")).to_be_focused()
    editor.press("End", "Enter")
    editor.expect_state("night", "confirmed")
    editor.press("Home", "ArrowDown")
    expect(editor.chip("tree")).to_be_focused()
    editor.press("ArrowUp", "ArrowLeft")
    editor.press("]")
    expect(editor.slider).to_have_value("0.36")
    editor.expect_state("long_hair", "candidate")
    editor.press("[", "[")
    expect(editor.slider).to_have_value("0.34")
    editor.press("/")
    expect(editor.field).to_be_focused()
    editor.page.keyboard.type("snq")
    expect(editor.field).to_have_value("snq")
    editor.press("Enter", "Escape")
    before = len(editor.bench.saved)
    editor.press("s")
    decisions = editor.delivered(before)
    assert (decisions.rejected, decisions.confirmed) == (("catfish",), ("night", "snq"))
    assert editor.bench.nexts == 0
    with editor.page.expect_response("**/queue/data**"):
        editor.press("n")
    expect(editor.root).to_be_focused()
    assert editor.bench.nexts == 1


def test_letters_act_only_while_the_editor_has_the_focus(editor: Editor) -> None:
    editor.push(state())
    editor.page.get_by_role("button", name="outside").focus()
    editor.press("]", "s", "n", "/")
    expect(editor.slider).to_have_value("0.35")
    expect(editor.field).not_to_be_focused()
    expect(editor.status).to_have_text("")


def test_tab_stops_at_one_chip(editor: Editor) -> None:
    editor.push(state())
    expect(editor.root.locator('.chip[tabindex="0"]')).to_have_count(1)
    editor.chip("cat").click()
    expect(editor.root.locator('.chip[tabindex="0"]')).to_have_attribute("data-label", "cat")


def test_a_focused_chip_that_the_slider_hides_hands_its_focus_on(editor: Editor) -> None:
    pushed = made_up(2000)
    editor.push(pushed)
    editor.root.locator(".chip").last.focus()
    editor.press("]", "]", "]")
    assert editor.page.evaluate("document.activeElement.matches('.chip')")


def test_the_curve_is_interpolated_beside_the_slider(editor: Editor) -> None:
    curve = editor.root.locator(".curve")
    editor.push(state(curve=CURVE))
    editor.slide(0.3)
    said = "precision 0.60 · recall 0.75 · F1 0.60 on the checkpoint’s validation photos"
    expect(curve).to_have_text(said, use_inner_text=True)
    editor.slide(0.05)
    expect(curve).to_contain_text("precision 0.50 · recall 0.90 · F1 0.40")
    editor.slide(0.95)
    expect(curve).to_contain_text("precision – · recall 0.20 · F1 –")
    editor.push(state())
    expect(curve).to_be_hidden()


def test_reset_returns_to_the_recommended_threshold(editor: Editor) -> None:
    editor.push(state(threshold=0.3517))
    reset = editor.page.get_by_role("button", name="Reset")
    expect(reset).to_be_disabled()
    editor.slide(0.8)
    expect(editor.root.locator(".value")).to_have_text("0.800")
    reset.click()
    expect(editor.slider).to_have_value("0.352")
    expect(reset).to_be_disabled()


def test_the_vocabulary_changes_with_the_image(editor: Editor) -> None:
    editor.push(state())
    editor.chip("sky").click()
    editor.push(EditorState("other", ["one", "two"], np.float32([0.9, 0.1]), 0.5))
    expect(editor.chip("sky")).to_have_count(0)
    editor.expect_state("one", "active")
    expect(editor.count).to_have_text("1")
    assert editor.save().labels == ("one",)
    editor.push(EditorState("none", [], np.float32([]), 0.5))
    expect(editor.count).to_have_text("0")
    assert editor.save().labels == ()


def test_empty_and_busy_take_the_room_that_labels_take(editor: Editor) -> None:
    expect(editor.root).to_contain_text("No image yet")
    for control in (editor.slider, editor.field, editor.page.get_by_test_id("save")):
        expect(control).to_be_disabled()
    height = editor.root.bounding_box()["height"]
    editor.push(Status("busy", "Tagging…"), "busy")
    expect(editor.status).to_have_text("Tagging…")
    assert editor.root.bounding_box()["height"] == height
    editor.push(state(curve=CURVE))
    expect(editor.status).to_have_text("")
    assert editor.root.bounding_box()["height"] == height
    editor.chip("sky").click()
    editor.push(Status("busy", "Tagging…"), "busy")
    expect(editor.chip("cat")).to_be_hidden()
    editor.push(Status("error", "No model."))
    editor.expect_state("sky", "rejected")
    editor.push(Status("error", "Not an image.", clear=True), "empty")
    expect(editor.count).to_have_text("0")
    expect(editor.status).to_have_attribute("data-state", "error")
    editor.push(state())
    editor.push(None, "empty")


def test_decisions_and_slider_outlive_being_taken_off_the_page(editor: Editor) -> None:
    editor.push(state())
    editor.chip("sky").click()
    editor.slide(0.5)
    editor.page.get_by_role("button", name="hide").click()
    expect(editor.root).to_have_count(0)
    editor.page.get_by_role("button", name="show").click()
    editor.expect_state("sky", "rejected")
    expect(editor.slider).to_have_value("0.5")
    editor.root.focus()
    editor.press("]")
    expect(editor.slider).to_have_value("0.51")


def test_the_browser_asks_before_it_drops_decisions_that_are_not_saved(editor: Editor) -> None:
    asked: list[str] = []

    def reload() -> int:
        before = len(asked)
        editor.page.reload()
        expect(editor.root).to_have_attribute("data-view", "empty")
        return len(asked) - before

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    editor.page.on("dialog", answer)
    editor.push(state())
    editor.slide(0.5)
    assert reload() == 0  # the slider alone decides nothing
    editor.push(state())
    editor.chip("sky").click()
    editor.chip("sky").click()
    assert reload() == 0  # taken back
    editor.push(state())
    editor.chip("sky").click()
    assert reload() == 1
    editor.push(state())
    editor.chip("sky").click()
    editor.push(state(key="sea"))
    assert reload() == 1  # what was left behind is not saved either
    editor.push(state())
    editor.chip("sky").click()
    editor.save()
    assert reload() == 0
    editor.push(state())
    editor.chip("sky").click()
    editor.bench.answer = Status("error", "The disk is full.")
    editor.save()
    assert reload() == 1
    assert asked == ["beforeunload"] * 3


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_aa_contrast(page: Page, bench: Bench, theme: str) -> None:
    editor = open_editor(page, bench, theme)
    editor.push(state(curve=CURVE, own_curve=OwnCurve(30, Curve(**CURVE)), thresholds=[0.5] * len(SKY)))
    editor.field.fill("brand new")
    editor.press("Enter")
    editor.page.get_by_test_id("mcut").click()
    editor.chip("sky").click()
    editor.chip("tree").click()
    editor.slide(0.36)
    bench.answer = Status("error", "No room.")
    editor.save()
    page.mouse.move(0, 0)
    for name, ratio in editor.root.evaluate(CONTRASTS).items():
        assert ratio >= 4.5, f"{name}: {ratio:.2f}"


def test_nothing_sticks_out_of_a_narrow_screen(page: Page, bench: Bench) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    editor = open_editor(page, bench)
    editor.push(state(names=[*SKY[:-1], "x" * 200], curve=CURVE, thresholds=[0.5] * len(SKY)))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    right = editor.root.bounding_box()["x"] + editor.root.bounding_box()["width"]
    for box in editor.root.locator("button, input, p").all():
        if (at := box.bounding_box()) is not None:
            assert at["x"] + at["width"] <= right


NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=8)


@given(NAMES, st.data(), st.integers(0, 1000))
def test_what_is_pushed_comes_back_as_decisions(names: list[str], data: st.DataObject, step: int) -> None:
    scores = np.float32(data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(names), max_size=len(names))))
    editor = TagEditor(render=False)
    pushed = editor.postprocess(EditorState("key", names, scores, 0.5, confirmed=names[:1], rejected=names[1:2]))
    decisions = editor.preprocess(pushed | {"slider": step / 1000})
    active = {name for name, score in zip(names, scores, strict=True) if score >= np.float32(step / 1000)}
    assert set(decisions.model_labels) == active
    assert set(decisions.labels) == (active | set(names[:1])) - set(names[1:2])
    assert decisions.rejected == tuple(names[1:2])


def test_decisions_of_before_come_back_on_labels_that_nobody_could_type() -> None:
    editor, odd = TagEditor(render=False), ("two\nlines", " blank ", "x" * 10_000)
    pushed = editor.postprocess(state(confirmed=odd[:2], rejected=odd[2:]))
    decisions = editor.preprocess(pushed)
    assert (decisions.new, decisions.confirmed, decisions.rejected) == (odd[:2], odd[:2], odd[2:])


@pytest.mark.parametrize(
    "forged",
    [
        {"key": 1},
        {"names": ["sky"]},
        {"names": "sky"},
        {"names": '["sky"]'},
        {"names": '[["sky"], 1, 2, 3, 4, 5, 6, 7]'},
        {"names": "[" * 100_000},
        {"foreign": "sky"},
        {"foreign": [3]},
        {"scores": "AAAA"},
        {"scores": None},
        {"scores": base64.b64encode(np.full(8, np.nan, "<f4").tobytes()).decode()},
        {"slider": float("nan")},
        {"slider": 1.5},
        {"slider": "0.5"},
        {"tuned": True},
        {"tuned": "yes"},
        {"confirmed": "sky"},
        {"confirmed": [3]},
        {"confirmed": [["sky"]]},
        {"confirmed": ["sky", "sky"]},
        {"confirmed": ["sky"], "rejected": ["sky"]},
        {"confirmed": ["x" * 201]},
        {"confirmed": ["two\nlines"]},
        {"confirmed": [" blank "]},
        {"confirmed": [""]},
        {"confirmed": ["half \ud800 a character"]},
        {"reviewed": "some"},
        {"reviewed": None},
    ],
)
def test_a_forged_payload_is_refused(forged: dict[str, object]) -> None:
    editor = TagEditor(render=False)
    sent = editor.postprocess(state())
    assert editor.preprocess(sent) is not None
    with pytest.raises(gr.Error):
        editor.preprocess(sent | forged)
    for name in forged:
        with pytest.raises(gr.Error):
            editor.preprocess({key: value for key, value in sent.items() if key != name} | {"scores": "AAAA"})


@pytest.mark.parametrize("wrong", [{"scores": np.float32([0.5])}, {"scores": np.full(8, np.nan)}])
def test_a_state_that_the_page_could_not_show_is_a_bug_of_the_caller(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="scores"):
        TagEditor(render=False).postprocess(state(**wrong))
