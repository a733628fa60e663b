"""Where to put the slider: figures and plot from curves, the best threshold, MCut; and the curve on one's own rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

import demo.ui.tagging
from demo.own_curve import FROM_IMAGES, OwnCurve, OwnCurves
from demo.thresholds import Curve, mcut, sweep
from tests.browser.editor_bench import CURVE, SKY, Editor, made_up, state
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load


def button(editor: Editor, name: str) -> Locator:
    return editor.page.get_by_test_id(name)


def swept(seed: int) -> Curve:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (60, 5))
    return sweep(np.clip(targets * 0.3 + rng.beta(1, 3, (60, 5)), 0, 1), targets)


def middle(node: Locator, axis: str = "x") -> float:
    box = node.bounding_box()
    return box[axis] + box["width" if axis == "x" else "height"] / 2


@pytest.mark.parametrize("labels", [1, 2, 20, 10_861])
def test_mcut_is_pythons_to_the_last_bit_and_stays_for_the_next_image(editor: Editor, labels: int) -> None:
    rng = np.random.default_rng(labels)
    for seed in range(3):
        scores = np.float32(rng.beta(0.4, 3, labels)) if seed else np.float32(rng.choice([0.25, 0.5, 0.75], labels))
        editor.push(state(key=f"{seed}", names=[f"label {i}" for i in range(labels)], scores=scores))
        if seed == 0:
            button(editor, "mcut").click()
        expect(button(editor, "mcut")).to_have_attribute("aria-pressed", "true")
        expect(editor.count).to_have_text(str(int((scores >= np.float32(mcut(scores))).sum())))
        decisions = editor.save()
        assert decisions.threshold == mcut(scores)
        assert len(decisions.model_labels) == int((scores >= np.float32(mcut(scores))).sum())


def test_mcut_ends_when_the_slider_is_moved_and_a_second_press_goes_back(editor: Editor) -> None:
    editor.push(state())
    button(editor, "mcut").click()
    expect(editor.root.locator(".cut > .value")).to_have_text(f"{mcut(np.float32(state().scores)):.3f}")
    editor.root.focus()
    editor.press("]")
    expect(button(editor, "mcut")).to_have_attribute("aria-pressed", "false")
    editor.push(made_up(20))
    expect(editor.slider).to_have_value("0.35")
    button(editor, "mcut").click()
    button(editor, "mcut").click()
    expect(button(editor, "mcut")).to_have_attribute("aria-pressed", "false")
    expect(editor.slider).to_have_value("0.35")


def test_mcut_and_tuned_thresholds_exclude_each_other(editor: Editor) -> None:
    editor.push(state(thresholds=[0.5] * len(SKY)))
    tuned = editor.page.get_by_role("switch")
    tuned.check()
    button(editor, "mcut").click()
    expect(tuned).not_to_be_checked()
    decisions = editor.save()
    assert (decisions.tuned, decisions.threshold) == (False, mcut(np.float32(state().scores)))
    tuned.check()
    expect(button(editor, "mcut")).to_have_attribute("aria-pressed", "false")
    expect(editor.slider).to_have_value("0.35")
    assert set(editor.save().model_labels) == {"sky", "catfish", "cat"}


def test_mcut_outlives_being_taken_off_the_page(editor: Editor) -> None:
    editor.push(state())
    button(editor, "mcut").click()
    before = editor.save().threshold
    editor.page.get_by_role("button", name="hide").click()
    expect(editor.root).to_have_count(0)
    editor.page.get_by_role("button", name="show").click()
    expect(button(editor, "mcut")).to_have_attribute("aria-pressed", "true")
    assert editor.save().threshold == before
    editor.push(made_up(20))
    assert editor.save().threshold == mcut(made_up(20).scores)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_threshold_is_pythons_and_a_button_takes_it(editor: Editor, seed: int) -> None:
    curve = swept(seed)
    editor.push(state(curve=curve.to_dict()))
    take, best = button(editor, "take-best"), curve.best()
    expect(take).to_have_text(f"Take {best:.2f}")
    take.click()
    expect(editor.root.locator(".cut > .value")).to_have_text(f"{best:.3f}")
    at = curve.threshold.index(best)
    said = f"precision {curve.precision[at]:.2f} · recall {curve.recall[at]:.2f} · F1 {curve.f1[at]:.2f}"
    expect(editor.root.locator(".curve")).to_contain_text(said)
    expect(take).to_be_disabled()
    editor.slide(0.5)
    expect(take).to_be_enabled()
    assert editor.save().threshold == 0.5


def test_the_plot_stands_under_the_slider_and_its_line_moves_along(editor: Editor) -> None:
    curve = swept(0)
    editor.push(state(curve=curve.to_dict()))
    plot = editor.page.get_by_role("img", name="Precision, recall and F1 over the threshold")
    expect(plot).to_have_accessible_name(f"Precision, recall and F1 over the threshold: F1 is best at {curve.best()}, "
                                         f"{max(curve.f1):.2f}")  # fmt: skip
    points = plot.locator(".recall").get_attribute("points").split()
    drawn = [tuple(map(float, point.split(","))) for point in points]
    expected = [(100 * at, 100 - 100 * of) for at, of in zip(curve.threshold, curve.recall, strict=True)]
    assert np.allclose(drawn, expected, atol=0.01)
    rail, here = editor.slider.bounding_box(), plot.locator(".here")
    for threshold in (0, 0.25, 1):
        editor.slide(threshold)
        thumb = rail["x"] + 8 + threshold * (rail["width"] - 16)
        assert middle(here) == pytest.approx(thumb, abs=1)
    editor.slide(curve.best())
    assert middle(plot.locator(".best")) == pytest.approx(middle(here), abs=1)
    box = plot.bounding_box()
    height = box["y"] + (1 - max(curve.f1)) * (box["height"] - 1)
    assert middle(plot.locator(".best"), "y") == pytest.approx(height, abs=1)


def test_the_plot_can_be_put_away_and_stays_away(editor: Editor) -> None:
    plot, switch = editor.root.locator(".plot"), button(editor, "plot")
    editor.push(state(curve=CURVE))
    expect(plot).to_be_visible()
    switch.click()
    expect(plot).to_be_hidden()
    expect(switch).to_have_attribute("aria-expanded", "false")
    editor.push(made_up(20))
    expect(switch).to_be_hidden()
    editor.push(state(key="next", curve=CURVE))
    expect(plot).to_be_hidden()
    switch.click()
    expect(plot).to_be_visible()


def test_nothing_moves_where_the_curve_does_not_hold(editor: Editor) -> None:
    editor.push(state(curve=CURVE, thresholds=[0.5] * len(SKY)))
    before = editor.field.bounding_box()
    editor.page.get_by_role("switch").check()
    for hidden in (editor.root.locator(".curve"), editor.root.locator(".plot"), button(editor, "take-best")):
        expect(hidden).to_be_hidden()
    assert editor.field.bounding_box() == before


def test_ones_own_curve_is_a_choice_that_stays(editor: Editor) -> None:
    own = OwnCurve(1234, swept(1))
    editor.push(state(curve=CURVE, own_curve=own))
    figures = editor.root.locator(".curve")
    validation, mine = (
        editor.page.get_by_role("button", name=name) for name in ("validation", "1,234 corrections made here")
    )
    expect(validation).to_have_attribute("aria-pressed", "true")
    expect(button(editor, "take-best")).to_have_text("Take 0.50")
    mine.click()
    expect(mine).to_have_attribute("aria-pressed", "true")
    expect(button(editor, "take-best")).to_have_text(f"Take {own.curve.best():.2f}")
    editor.slide(own.curve.best())
    expect(figures).to_contain_text(f"F1 {max(own.curve.f1):.2f}")
    editor.push(state(key="next", curve=CURVE, own_curve=own))
    expect(mine).to_have_attribute("aria-pressed", "true")
    editor.push(state(key="other model", curve=CURVE))
    expect(figures).to_contain_text("on the checkpoint’s validation photos")
    expect(mine).to_be_hidden()
    editor.push(state(key="no curve of its own", own_curve=own))
    expect(figures).to_contain_text("on 1,234 corrections made here")
    expect(mine).to_be_hidden()


def test_the_thirtieth_image_reviewed_in_full_brings_the_curve(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    make_image: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[OwnCurves] = []
    monkeypatch.setattr(demo.ui.tagging, "OwnCurves", lambda folder: made.append(OwnCurves(folder, 0)) or made[-1])
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    for seed in range(FROM_IMAGES - 1):
        site.corrections.save(
            make_image(seed),
            "png",
            labels=[site.names[seed % 3]],
            rejected=[],
            reviewed="all",
            model_labels=[],
            threshold=0.4,
            model=site.models.own.checkpoint.identity,
            vocabulary=site.names,
        )
    mine = page.get_by_role("button", name=f"{FROM_IMAGES} corrections made here")
    site.upload_and_wait(make_image(100))
    made[0].wait()
    expect(mine).to_be_hidden()
    site.save("review-all")
    made[0].wait()
    site.upload(make_image(101))
    mine.click()
    expect(mine).to_have_attribute("aria-pressed", "true")
    expect(site.id("take-best")).to_have_text(f"Take {made[0]._known[site.models.own][1].curve.best():.2f}")
