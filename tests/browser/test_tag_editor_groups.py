"""Categories in the tag editor: groups of chips, a threshold each, and labels that exclude each other."""

from __future__ import annotations

import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from demo.ui.tag_editor import Decisions, EditorState, TagEditor
from tests.browser.editor_bench import CONTRASTS, CURVE, SWEEP, Bench, Editor, open_editor, state

NAMES = ("safe", "risky", "wild", "sky", "tree", "long_hair", "cat", "miku", "rin", "stray")
CATEGORIES = (*["rating"] * 3, *["general"] * 4, *["character"] * 2, "")
SCORES = (0.2, 0.6, 0.1, 0.9, 0.5, 0.35, 0.3, 0.8, 0.34, 0.7)


def small(**changes: object) -> EditorState:
    given = {"names": NAMES, "scores": np.float32(SCORES), "categories": CATEGORIES, "exclusive": {"rating"}}
    return state(**given | changes)


def made_up(general: int = 2000, characters: int = 500, seed: int = 0) -> EditorState:
    """As a tagger of drawings has them, but with the ratings last; scores and thresholds on the slider's own steps."""
    rng = np.random.default_rng(seed)
    categories = ["general"] * general + ["character"] * characters + ["rating"] * 4
    tuned = [*rng.uniform(0.1, 0.9, general).round(2).tolist(), *[None] * (characters + 4)]
    return EditorState(
        f"made-up-{seed}",
        [f"{category} {i}" for i, category in enumerate(categories)],
        rng.beta(0.4, 3, len(categories)).round(3).astype(np.float32),
        0.35,
        thresholds=tuned,
        categories=categories,
        exclusive={"rating"},
    )


def places(pushed: EditorState, category: str) -> np.ndarray:
    return np.flatnonzero(np.array(pushed.categories) == category)


def at_levels(pushed: EditorState, levels: dict[str, float], tuned: bool) -> set[str]:
    """What the model has active when its categories stand at these thresholds."""
    active = {pushed.names[max(places(pushed, "rating"), key=lambda i: pushed.scores[i])]}
    for category, level in levels.items():
        for i in places(pushed, category):
            own = np.float32(0.35 if pushed.thresholds[i] is None else pushed.thresholds[i])
            score = pushed.scores[i]
            if float(score) - float(own) >= level - 0.35 if tuned else score >= np.float32(level):
                active.add(pushed.names[i])
    return active


def slide(editor: Editor, category: str, threshold: float) -> None:
    editor.page.get_by_test_id(f"threshold-{category}").fill(str(threshold))


def labels_of(editor: Editor, group: str) -> list[str]:
    return editor.page.get_by_role("group", name=group, exact=True).locator(".chip bdi").all_text_contents()


@pytest.mark.parametrize("tuned", [False, True])
def test_each_count_is_numpys_at_every_stop_of_every_slider(editor: Editor, tuned: bool) -> None:
    pushed = made_up()
    editor.push(pushed)
    if tuned:
        editor.page.get_by_role("switch").check()
    each = np.float32([0.35 if own is None else own for own in pushed.thresholds]).astype(np.float64)

    def expected(category: str) -> list[int]:
        own = places(pushed, category)
        scores, steps = pushed.scores[own], np.arange(1001)[:, None] / 1000
        reached = scores - each[own] >= steps - 0.35 if tuned else scores >= steps.astype(np.float32)
        return reached.sum(1).tolist()

    counts, chips = editor.root.evaluate(SWEEP)
    assert counts == [1 + a + b for a, b in zip(expected("general"), expected("character"), strict=True)]
    assert max(chips) <= 300
    for category in ("general", "character"):
        counts, chips = editor.root.evaluate(SWEEP, category)
        assert counts == expected(category)
        assert max(chips) <= 300


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_what_is_saved_is_what_was_seen_after_anything_a_person_does(editor: Editor, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pushed = made_up(*rng.choice([(30, 10), (400, 3), (2000, 500)]).tolist(), seed)
    editor.push(pushed)
    levels, tuned = {"general": 0.35, "character": 0.35}, False

    def threshold() -> float:
        return float(rng.choice([rng.random(), rng.choice(pushed.scores), 0, 1]).round(3))

    for _ in range(4):
        for _ in range(6):
            match rng.integers(8):
                case 0:
                    levels = dict.fromkeys(levels, threshold())
                    editor.slide(levels["general"])
                case 1 | 2:
                    category = str(rng.choice(list(levels)))
                    levels[category] = threshold()
                    slide(editor, category, levels[category])
                case 3:
                    tuned = not tuned
                    editor.page.get_by_role("switch").set_checked(tuned)
                case 4:
                    editor.chip(pushed.names[rng.choice(places(pushed, "rating"))]).click()
                case 5:
                    editor.field.fill(str(rng.choice([*pushed.names, "never seen"])))
                    editor.press("Enter")
                case _:
                    chips = editor.root.locator(".chip")
                    chips.nth(int(rng.integers(chips.count()))).click()
        shown = editor.root.locator(".chip").evaluate_all("nodes => nodes.map(n => [n.dataset.label, n.dataset.state])")
        decisions = editor.save()
        assert len(shown) == len(dict(shown)) <= 300
        assert set(decisions.model_labels) == at_levels(pushed, levels, tuned)
        expect(editor.count).to_have_text(str(len(decisions.labels)))
        for name, seen in shown:
            assert (name in decisions.labels) == (seen in ("active", "confirmed")), name
            assert (name in decisions.confirmed) == (seen == "confirmed")
            assert (name in decisions.rejected) == (seen == "rejected")
        assert len({*decisions.labels} & {pushed.names[i] for i in places(pushed, "rating")}) <= 1


def test_groups_stand_exclusive_first_and_then_as_the_vocabulary_has_them(editor: Editor) -> None:
    order = np.random.default_rng(0).permutation(len(NAMES)).tolist()
    editor.push(small(**{key: [values[i] for i in order] for key, values in (
        ("names", NAMES), ("scores", np.float32(SCORES)), ("categories", CATEGORIES))}))  # fmt: skip
    later = [category or "other" for category in dict.fromkeys(CATEGORIES[i] for i in order) if category != "rating"]
    assert editor.root.locator(".title h3:visible").all_text_contents() == ["rating", *later]
    for group, falling in (
        ("rating", ["risky", "safe", "wild"]),
        ("general", ["sky", "tree", "long_hair", "cat"]),
        ("character", ["miku", "rin"]),
        ("other", ["stray"]),
    ):
        assert labels_of(editor, group) == falling


def test_one_category_or_none_makes_one_list(editor: Editor) -> None:
    for categories in ((), [""] * len(NAMES), ["general"] * len(NAMES)):
        editor.push(small(categories=categories))
        expect(editor.root.locator(".title")).to_have_count(0)
        expect(editor.root.get_by_role("slider")).to_have_count(1)
        assert labels_of(editor, "Labels")[0] == "sky"


def test_a_categorys_slider_moves_it_alone_and_the_main_one_moves_all(editor: Editor) -> None:
    editor.push(small(curve=CURVE))
    general, character = (editor.page.get_by_test_id(f"threshold-{name}") for name in ("general", "character"))
    reset = editor.page.get_by_role("button", name="Reset")
    expect(editor.count).to_have_text("6")
    slide(editor, "character", 0.3)
    editor.expect_state("rin", "active")
    editor.expect_state("cat", "candidate")
    expect(editor.count).to_have_text("7")
    expect(editor.page.get_by_test_id("active-count-character")).to_have_text("2")
    expect(editor.slider).to_have_value("0.35")
    expect(general).to_have_value("0.35")
    expect(editor.root.locator(".curve")).to_be_hidden()
    decisions = editor.save()
    assert (decisions.threshold, "rin" in decisions.model_labels) == (0.35, True)
    editor.slide(0.6)
    expect(general).to_have_value("0.6")
    expect(character).to_have_value("0.6")
    expect(editor.root.locator(".curve")).to_be_visible()
    slide(editor, "general", 0.1)
    slide(editor, "character", 0.35)
    editor.slide(0.35)
    slide(editor, "general", 0.1)
    reset.click()
    expect(general).to_have_value("0.35")
    expect(reset).to_be_disabled()
    expect(editor.count).to_have_text("6")


@pytest.mark.parametrize("threshold", [0, 0.35, 1])
def test_of_labels_that_exclude_each_other_the_best_is_active_at_any_threshold(
    editor: Editor, threshold: float
) -> None:
    editor.push(small())
    editor.slide(threshold)
    for name, expected in (("risky", "active"), ("safe", "candidate"), ("wild", "candidate")):
        editor.expect_state(name, expected)
    decisions = editor.save()
    assert {*NAMES[:3]} & {*decisions.labels} == {*NAMES[:3]} & {*decisions.model_labels} == {"risky"}


def test_choosing_another_turns_the_first_off_in_one_step(editor: Editor) -> None:
    editor.push(small())

    def expect_states(safe: str, risky: str, wild: str) -> None:
        for name, expected in (("safe", safe), ("risky", risky), ("wild", wild)):
            editor.expect_state(name, expected)

    editor.chip("safe").click()
    expect_states("confirmed", "rejected", "candidate")
    expect(editor.count).to_have_text("6")
    editor.press("Control+z")
    expect_states("candidate", "active", "candidate")
    editor.press("Control+y")
    editor.field.fill("wild")
    editor.press("Enter")
    expect_states("rejected", "rejected", "confirmed")
    decisions = editor.save()
    assert {*decisions.rejected} == {"safe", "risky"}
    assert {*decisions.labels} & {*NAMES[:3]} == {"wild"}
    assert {*decisions.model_labels} & {*NAMES[:3]} == {"risky"}
    editor.chip("risky").click()
    expect_states("rejected", "candidate", "confirmed")
    editor.chip("wild").click()
    expect_states("candidate", "active", "candidate")
    editor.press("Control+z")
    expect_states("rejected", "candidate", "confirmed")
    editor.chip("wild").click()
    editor.chip("risky").click()
    expect_states("candidate", "rejected", "candidate")
    expect(editor.count).to_have_text("5")


def test_a_choice_made_before_stands_for_its_whole_category(editor: Editor) -> None:
    editor.push(small(confirmed=["wild"]))
    editor.expect_state("wild", "confirmed")
    editor.expect_state("risky", "candidate")
    decisions = editor.save()
    assert {*decisions.labels} & {*NAMES[:3]} == {"wild"}
    assert decisions.rejected == ()


def test_only_labels_near_their_threshold_are_candidates(editor: Editor) -> None:
    names, scores = ["yes", "near", "far", "nothing"], np.float32([0.9, 0.3, 0.01, 0.0])
    editor.push(EditorState("few", names, scores, 0.4))
    assert labels_of(editor, "Labels") == ["yes", "near"]
    expect(editor.root.locator(".rest")).to_have_text("2 more labels score lower.")
    editor.slide(0.02)
    assert labels_of(editor, "Labels") == ["yes", "near", "far"]
    editor.slide(0.4)
    editor.field.fill("nothing")
    editor.press("Enter")
    editor.expect_state("nothing", "confirmed")


def test_a_small_group_is_not_crowded_out_by_a_large_one(editor: Editor) -> None:
    pushed = made_up()
    editor.push(pushed)
    editor.slide(0)
    assert len(labels_of(editor, "rating")) == 4
    assert len(labels_of(editor, "character")) == len(labels_of(editor, "general")) == 148
    slide(editor, "character", 0.8)
    few = int((pushed.scores[places(pushed, "character")] >= np.float32(0.8)).sum())
    assert few <= len(labels_of(editor, "character")) <= few + 12
    assert len(labels_of(editor, "general")) == 300 - 4 - len(labels_of(editor, "character"))


def test_new_labels_stand_apart(editor: Editor) -> None:
    editor.push(small())
    expect(editor.page.get_by_role("heading", name="New labels")).to_be_hidden()
    editor.field.fill("brand new")
    editor.press("Enter")
    assert labels_of(editor, "New labels") == ["brand new"]
    editor.press("Control+z", "Escape", "Control+z")
    expect(editor.page.get_by_role("heading", name="New labels")).to_be_hidden()


def test_the_tuned_switch_says_how_many_labels_have_their_own_threshold(editor: Editor) -> None:
    tuned = editor.root.locator(".tuned")
    editor.push(small(thresholds=[None] * 3 + [0.5] * 7))
    expect(tuned).to_have_text("Tuned for 7 labels")
    tuned.click()
    expect(tuned).to_have_text("Tuned thresholds in use for 7 labels")
    editor.expect_state("long_hair", "candidate")
    editor.expect_state("risky", "active")
    editor.slide(0.4)
    expect(tuned).to_have_text("Tuned thresholds in use for 7 labels, +0.050")
    editor.push(state(thresholds=[0.5, *[None] * 7]))
    expect(tuned).to_have_text("Tuned for 1 label")


def test_a_groups_slider_is_named_and_worked_by_keys(editor: Editor) -> None:
    editor.push(small())
    slider = editor.page.get_by_role("slider", name="Threshold of character", exact=True)
    slider.focus()
    editor.press("ArrowLeft")
    expect(slider).to_have_value("0.349")
    editor.press("[")
    expect(slider).to_have_value("0.339")
    editor.expect_state("rin", "active")
    expect(slider).to_be_focused()
    expect(editor.slider).to_have_value("0.35")
    editor.press("End")
    expect(slider).to_have_value("1")
    editor.chip("miku").focus()
    editor.press("]")
    expect(editor.slider).to_have_value("0.36")
    expect(slider).to_have_value("0.36")
    expect(editor.page.get_by_role("status", name="Active in character")).to_have_text("1")


def test_arrows_lead_from_group_to_group(editor: Editor) -> None:
    editor.push(small())
    editor.chip("wild").focus()
    editor.press("ArrowRight")
    expect(editor.chip("sky")).to_be_focused()
    editor.press("ArrowUp")
    expect(editor.page.get_by_role("group", name="rating").locator(":focus")).to_be_attached()
    expect(editor.root.locator('.chip[tabindex="0"]')).to_have_count(1)


@pytest.mark.parametrize("general", [200, 2000])
def test_a_slider_stays_under_the_pointer_that_drags_it(editor: Editor, general: int) -> None:
    editor.page.set_viewport_size({"width": 390, "height": 500})
    editor.push(made_up(general))
    editor.slide(0.1)
    slider = editor.page.get_by_test_id("threshold-character")
    slider.scroll_into_view_if_needed()
    at = slider.bounding_box()
    editor.page.mouse.move(at["x"] + at["width"] * 0.1, at["y"] + at["height"] / 2)
    editor.page.mouse.down()
    height = editor.root.bounding_box()["height"]
    editor.page.mouse.move(at["x"] + at["width"], at["y"] + at["height"] / 2)
    expect(slider).to_have_value("1")
    assert slider.bounding_box() == at
    assert editor.root.bounding_box()["height"] == height
    editor.page.mouse.up()
    expect(editor.root.locator(".stage")).to_have_attribute("style", "")


def test_thresholds_outlive_being_taken_off_the_page(editor: Editor) -> None:
    editor.push(small())
    slide(editor, "character", 0.2)
    editor.page.get_by_role("button", name="hide").click()
    expect(editor.root).to_have_count(0)
    editor.page.get_by_role("button", name="show").click()
    expect(editor.page.get_by_test_id("threshold-character")).to_have_value("0.2")
    expect(editor.page.get_by_test_id("threshold-general")).to_have_value("0.35")
    editor.expect_state("rin", "active")


def test_category_names_are_text_whatever_they_hold(editor: Editor) -> None:
    hostile = ['<img src=x onerror="throw 1">', '"]', "${1+1}", "__proto__"]
    editor.push(EditorState("hostile", list("abcd"), np.float32([0.4] * 4), 0.5, categories=hostile))
    assert editor.root.locator(".title h3:visible").all_text_contents() == hostile
    slide(editor, "__proto__", 0.3)
    assert editor.save().labels == ("d",)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_text_of_groups_has_aa_contrast(page: Page, bench: Bench, theme: str) -> None:
    editor = open_editor(page, bench, theme)
    editor.push(small(thresholds=[0.5] * len(NAMES)))
    slide(editor, "character", 0.2)
    for name, ratio in editor.root.evaluate(CONTRASTS).items():
        assert ratio >= 4.5, f"{name}: {ratio:.2f}"


def test_no_group_sticks_out_of_a_narrow_screen(page: Page, bench: Bench) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    editor = open_editor(page, bench)
    long = ["x" * 200 if category == "character" else category for category in CATEGORIES]
    editor.push(small(categories=long, thresholds=[0.5] * len(NAMES), curve=CURVE))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    right = editor.root.bounding_box()["x"] + editor.root.bounding_box()["width"]
    for part in editor.root.locator("button, input, output, p").all():
        if (at := part.bounding_box()) is not None:
            assert at["x"] + at["width"] <= right
    for slider in editor.root.get_by_role("slider").all():
        assert slider.bounding_box()["width"] >= 100


@pytest.mark.parametrize(
    "forged",
    [
        {"categories": "rating"},
        {"categories": []},
        {"membership": None},
        {"membership": "AAAA"},
        {"membership": TagEditor(render=False).postprocess(small(scores=np.full(10, 0.5)))["scores"]},
        {"exclusive": [True]},
        {"exclusive": None},
        {"levels": [None]},
        {"levels": [None, 1.5, None, None]},
        {"levels": [None, float("nan"), None, None]},
        {"levels": [None, "high", None, None]},
        {"levels": {"general": 0.5}},
    ],
)
def test_forged_groups_are_refused(forged: dict[str, object]) -> None:
    editor = TagEditor(render=False)
    sent = editor.postprocess(small())
    assert isinstance(editor.preprocess(sent), Decisions)
    with pytest.raises(gr.Error):
        editor.preprocess(sent | forged)


def test_a_category_too_few_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="categories"):
        TagEditor(render=False).postprocess(small(categories=CATEGORIES[1:]))
