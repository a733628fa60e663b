"""The Retrain tab in a real browser: start, watch, queue, go on, compare, and put the new model to use."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from demo.models import name_of, ref_of
from demo.retrain import Retraining, Run
from demo.settings import MAX_WAITING_RUNS
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load
expect.set_options(timeout=20_000)

LEARNS = (sys.executable, "-m", "demo.finetune", "--workers", "0", "--lr-head", "0.05", "--epochs", "0")
END = 240_000


class Staged(Retraining):
    """A run that stands as a test says; `asked` are the methods that the page called."""

    run = Run()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[str] = []

    def status(self) -> Run:
        return self.run

    def resume(self, name: str) -> Run:
        self.asked.append(f"resume {name}")
        self.run = replace(self.run, state="running", message="")
        return self.run

    def forget_waiting(self) -> Run:
        self.asked.append("forget")
        self.run = replace(self.run, waiting=0)
        return self.run


@pytest.fixture
def site(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Site]:
    site = Site(page, serve, tmp_path, tiny_checkpoint, lambda settings: Retraining(settings, LEARNS))
    yield site
    site.retraining.forget_waiting()
    site.retraining.cancel()


@pytest.fixture
def staged(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Site:
    """A site whose run is set by the test, with corrections to start from."""
    site = Site(page, serve, tmp_path, tiny_checkpoint, Staged)
    save_coloured(site, 12)
    return site


def coloured(number: int) -> bytes:
    """A plain picture, red for odd numbers and blue for even ones."""
    rng = np.random.default_rng(number)
    strong, weak = int(rng.integers(150, 256)), int(rng.integers(0, 60))
    file = io.BytesIO()
    Image.new("RGB", (32, 32), (strong, weak, weak) if number % 2 else (weak, weak, strong)).save(file, "PNG")
    return file.getvalue()


def save_coloured(site: Site, count: int, is_wrong: bool = False) -> None:
    """Corrections that can be learned: reds are cats and blues are dogs, or the other way round."""
    for number in range(count):
        present, absent = ("cat", "dog") if number % 2 != is_wrong else ("dog", "cat")
        site.corrections.save(
            coloured(number),
            "png",
            labels=[present],
            rejected=[absent],
            reviewed="listed",
            model_labels=[],
            threshold=0.4,
            model=site.models.own.checkpoint.identity,
            vocabulary=site.names,
        )


def finished(site: Site, verdict: str, name: str = "one", **others: Any) -> Run:
    figures = dict.fromkeys(("map", "micro_f1", "macro_f1", "micro_precision", "micro_recall", "accuracy"), 0.5)
    metrics = {
        "verdict": verdict,
        "summary": f"It came out {verdict}: mAP 0.500 before.",
        "warnings": ["mAP fell by 3.0 points."],
        "comparison": {
            "by": "valid",
            "images": 30,
            "known_cells": 60,
            "labels": 12,
            "threshold": {"new": 0.3, "old": 0.4},
            "new": figures | {"map": 0.47},
            "old": figures,
            "predict_nothing": figures | {"micro_f1": 0.0, "accuracy": None},
            "difference": {"map": {"value": -0.03, "low": -0.061, "high": -0.002}, "micro_f1": None},
            "calibration": {"new": 0.1, "old": 0.1},
            "flipped": {"decisions": 300, "share": 0.01},
        },
        "suspects": {"found": 0, "cells": []},
    }
    return Run(state="done", out=str(site.settings.runs / name), metrics=metrics | others)


def open_tab(site: Site, run: Run | None = None) -> None:
    if run is not None:
        site.retraining.run = run
    site.tab("Retrain")
    expect(site.page.locator(".retrain .plan p")).not_to_be_empty()


def test_a_fine_tune_is_watched_over_a_reload_and_its_model_put_to_use_and_back(site: Site) -> None:
    open_tab(site)
    expect(site.id("retrain")).to_be_disabled()
    site.tab("Tag")
    save_coloured(site, 60)
    site.upload_and_wait(coloured(101))
    decided = site.chips.first.get_attribute("data-label")
    site.chips.first.click()
    open_tab(site)
    site.id("retrain").click()
    progress = site.id("retrain-progress")
    expect(progress).to_have_attribute("data-state", "running")
    site.page.reload()
    open_tab(site)
    expect(progress).to_have_attribute("data-state", "done", timeout=END)
    run = site.retraining.status()
    assert run.metrics["verdict"] == "better"
    expect(site.page.locator(".verdict")).to_contain_text(run.metrics["summary"])
    points = site.page.locator("polyline.head").get_attribute("points")
    assert len(points.split()) == len(run.history) > 10
    expect(site.page.locator(".retrain figcaption")).to_contain_text(f"{run.history[-1]['loss']:.4f} after epoch")
    row = site.page.get_by_role("row", name="mAP")
    for who in ("old", "new", "predict_nothing"):
        expect(row).to_contain_text(f"{run.metrics['comparison'][who]['map']:.3f}")
    with site.page.expect_popup() as popup:
        site.page.get_by_role("link", name="Open the whole report").click()
    expect(popup.value.locator("body")).to_contain_text(run.metrics["summary"])
    site.tab("Tag")
    site.upload_and_wait(coloured(101))
    if site.chip(decided).get_attribute("data-state") != "rejected":
        site.chip(decided).click()
    scores = site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.score)")
    open_tab(site)
    site.id("use-model").click()
    expect(site.id("model")).to_contain_text(Path(run.out).name)
    expect(site.id("use-model")).to_be_disabled()
    expect(site.id("previous-model")).to_be_focused()
    site.tab("Tag")
    expect(site.id("status")).to_contain_text("Tagged again")
    expect(site.chip(decided)).to_have_attribute("data-state", "rejected")
    assert site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.score)") != scores
    assert name_of(ref_of(site.models.own)) == "tiny"  # the others' has not changed
    open_tab(site)
    site.id("previous-model").click()
    expect(site.id("model")).to_contain_text("tiny")

    other = site.page.context.browser.new_context().new_page()  # somebody who has chosen nothing
    other.goto(site.url)
    expect(other.get_by_test_id("model").locator("b")).to_have_text("tiny")
    site.id("use-for-all").click()
    expect(site.id("model")).to_contain_text(Path(run.out).name)
    other.locator('[data-example="cat"]').click()
    expect(other.get_by_test_id("model").locator("b")).to_have_text(Path(run.out).name)
    site.id("previous-for-all").click()
    expect(site.id("model")).to_contain_text("tiny")
    other.reload()
    expect(other.get_by_test_id("model").locator("b")).to_have_text("tiny")
    other.context.close()


def test_requests_wait_are_counted_and_can_be_taken_back(site: Site) -> None:
    save_coloured(site, 12)
    open_tab(site)
    site.id("retrain").click()
    again = site.page.get_by_role("button", name="Fine-tune again after this")
    queue = site.page.locator(".retrain .queue")
    again.click()
    expect(queue).to_contain_text("One more waits for its turn.")
    site.page.get_by_role("button", name="Take back").click()
    expect(queue).to_be_hidden()
    site.page.get_by_role("button", name="Cancel").click()
    expect(site.id("retrain-progress")).to_have_attribute("data-state", "interrupted")
    site.page.get_by_role("button", name="Go on").click()
    expect(site.id("retrain-progress")).to_have_attribute("data-state", "running")
    expect(site.id("retrain-progress")).to_have_attribute("data-state", "done", timeout=END)
    assert len(list(site.settings.runs.iterdir())) == 1


def test_a_run_that_the_corrections_have_outrun_is_started_anew(site: Site) -> None:
    save_coloured(site, 12)
    open_tab(site)
    progress = site.id("retrain-progress")
    site.id("retrain").click()
    expect(progress).to_have_attribute("data-state", "running")
    site.page.get_by_role("button", name="Cancel").click()
    expect(progress).to_contain_text("Go on takes it up where it stopped.")
    site.tab("Tag")
    save_coloured(site, 13)
    open_tab(site)
    expect(progress).to_contain_text("The corrections have changed since it began, so it cannot go on: start anew")
    expect(site.page.get_by_role("button", name="Go on")).to_be_hidden()
    expect(site.id("retrain")).to_have_text("Start anew")
    site.id("retrain").click()
    expect(progress).to_have_attribute("data-state", "running")
    expect(site.id("retrain")).to_have_text("Fine-tune again after this")
    assert len(list(site.settings.runs.iterdir())) == 2


def test_what_the_last_run_came_to_can_be_used_while_the_next_one_runs(staged: Site, tiny_checkpoint: Path) -> None:
    shutil.copytree(tiny_checkpoint, staged.settings.runs / "one")
    running = Run(state="running", out="two", phase="head", step=3, steps=9, loss=0.5, eta_seconds=6.0)
    open_tab(staged, replace(running, before=finished(staged, "better")))
    progress, verdict = staged.id("retrain-progress"), staged.page.locator(".verdict")
    expect(progress).to_have_attribute("data-state", "running")
    expect(progress).to_contain_text("3 of 9")
    expect(staged.page.locator(".retrain .before")).to_have_text("Before it, one:")
    expect(verdict).to_contain_text("It came out better")
    expect(staged.page.get_by_role("link", name="Open the whole report")).to_have_attribute(
        "href", "runs/one/report.html"
    )
    assert progress.bounding_box()["y"] < verdict.bounding_box()["y"]
    staged.id("use-model").click()
    expect(staged.id("model")).to_contain_text("one")
    expect(staged.id("use-model")).to_have_text("In use for you")
    staged.retraining.run = finished(staged, "worse", "two")
    expect(staged.page.locator(".retrain [role=status]")).to_contain_text("The fine-tune is done. It came out worse")
    expect(staged.page.locator(".retrain .before")).to_be_hidden()
    assert progress.bounding_box() is None or progress.bounding_box()["y"] > verdict.bounding_box()["y"]


def test_a_run_that_failed_before_the_one_that_runs_says_so_and_can_go_on_after_it(staged: Site) -> None:
    failed = Run(state="failed", out="one", message="The disk is full.")
    open_tab(staged, Run(state="running", out="two", phase="reading", before=failed))
    expect(staged.page.locator(".retrain .before")).to_have_text(
        "Before it, one: The fine-tune failed. The disk is full."
    )
    expect(staged.page.get_by_role("button", name="Cancel")).to_be_visible()
    staged.page.get_by_role("button", name="Go on with the one before").click()
    staged.retraining.run = replace(staged.retraining.run, waiting=1, before=replace(failed, is_queued=True))
    expect(staged.page.get_by_role("button", name="Go on with the one before")).to_be_hidden()
    assert staged.retraining.asked == ["resume one"]


def test_a_click_that_means_a_run_which_is_no_longer_the_last_is_refused(staged: Site) -> None:
    open_tab(staged, finished(staged, "better"))
    expect(staged.id("use-model")).to_be_visible()
    staged.retraining.run = finished(staged, "better", "two")  # the page still shows the first
    staged.id("use-model").click()
    problem = staged.page.locator(".retrain .problem")
    expect(problem).to_have_text("There is no such model. What is offered has changed since.")
    expect(staged.page.locator(".retrain .more")).to_contain_text("two")
    expect(staged.id("model")).to_contain_text("tiny")


def test_as_many_as_may_wait_close_the_button(staged: Site) -> None:
    run = Run(state="running", out="a", phase="head", step=3, steps=9, loss=0.5, waiting=MAX_WAITING_RUNS)
    open_tab(staged, run)
    expect(staged.id("retrain")).to_be_disabled()
    expect(staged.page.locator(".retrain .queue")).to_contain_text(
        f"{MAX_WAITING_RUNS} more wait for their turn, and no"
    )
    staged.page.get_by_role("button", name="Take back").click()
    expect(staged.id("retrain")).to_be_enabled()
    assert staged.retraining.asked == ["forget"]


def test_the_curve_grows_to_the_right_on_axes_that_stay(staged: Site) -> None:
    epochs = [{"phase": "head", "epoch": 2 * n, "epochs": 20, "loss": 1 / n} for n in range(1, 11)]
    run = Run(state="running", out="a", phase="head", step=6, steps=20, loss=0.4, eta_seconds=41.0)
    open_tab(staged, replace(run, step=1, loss=1.9))
    line, levels = staged.page.locator("polyline.head"), staged.page.locator(".retrain .levels")
    expect(levels).to_have_text("210")
    staged.retraining.run = replace(run, history=epochs[:3])
    expect(staged.id("retrain-progress")).to_contain_text("6 of 20 · about 45 s left")
    before, box = line.get_attribute("points"), staged.page.locator(".retrain figure").bounding_box()
    staged.retraining.run = replace(run, history=epochs[:7], step=14, eta_seconds=4.0)
    expect(staged.id("retrain-progress")).to_contain_text("14 of 20 · a few seconds left")
    expect(levels).to_have_text("210")
    assert line.get_attribute("points").startswith(before)
    assert staged.page.locator(".retrain figure").bounding_box() == box


def test_a_worse_model_is_not_offered_and_the_page_says_why(staged: Site) -> None:
    open_tab(staged, finished(staged, "worse"))
    expect(staged.page.locator(".verdict")).to_contain_text("It came out worse: mAP 0.500 before.")
    expect(staged.page.locator(".retrain .warnings")).to_have_text("mAP fell by 3.0 points.")
    expect(staged.page.get_by_role("row", name="mAP")).to_contain_text("−3.0−6.1 to −0.2")
    for button in ("use-model", "use-for-all"):
        expect(staged.id(button)).to_be_hidden()
        expect(staged.id(button)).to_be_disabled()
        staged.id(button).evaluate("button => { button.disabled = false; button.click(); }")
        expect(staged.page.locator(".retrain .problem")).to_contain_text("There is no such model.")
    assert name_of(ref_of(staged.models.own)) == "tiny"


def test_cells_that_look_wrong_are_named_with_their_pictures(staged: Site) -> None:
    cell = {"file_name": staged.rows()[0]["file_name"], "label": "<b>cat", "said": "present", "score": 0.03}
    gone = cell | {"file_name": "elsewhere/cat.png", "label": "dog"}
    warning = "2 decided cells (3.3 %) look wrong, the likeliest first: …"
    run = finished(staged, "better", suspects={"found": 2, "cells": [cell, gone]}, warnings=[warning])
    open_tab(staged, run)
    suspects = staged.page.locator(".retrain .suspects")
    expect(suspects).to_contain_text("2 decided cells look wrong")
    expect(suspects.locator("li")).to_have_text(["<b>catsaid present, score 0.03", "dogsaid present, score 0.03"])
    expect(suspects.locator("img")).to_have_count(1)
    assert suspects.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    expect(staged.page.locator(".retrain .warnings")).to_be_hidden()  # it would say the same


def test_a_failed_run_says_why_and_goes_on_and_its_end_is_told_aloud(staged: Site) -> None:
    run = Run(state="failed", out="a", phase="reading", message="The disk is full.")
    open_tab(staged, run)
    expect(staged.id("retrain-progress")).to_contain_text("The fine-tune failed. The disk is full.")
    status = staged.page.locator(".retrain [role=status]")
    expect(status).to_be_empty()
    staged.page.get_by_role("button", name="Go on").focus()
    staged.page.keyboard.press("Enter")
    expect(staged.id("retrain-progress")).to_have_attribute("data-state", "running")
    expect(staged.page.get_by_role("button", name="Cancel")).to_be_focused()
    assert staged.retraining.asked == ["resume a"]
    staged.retraining.run = replace(finished(staged, "same"), out="a")
    expect(status).to_have_text("The fine-tune is done. It came out same: mAP 0.500 before.")


def test_on_a_public_host_no_report_is_linked_and_who_is_not_named_finds_no_tab(
    page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint, Staged, on_space=True, retrainers=("",))
    open_tab(site, finished(site, "better"))
    expect(site.id("use-for-all")).to_be_visible()
    expect(page.get_by_role("link", name="Open the whole report")).to_be_hidden()
    site = Site(page, serve, tmp_path, tiny_checkpoint, Staged, on_space=True)
    expect(site.page.get_by_role("tab")).to_have_text(["Tag", "Grid", "Corrections"])


def test_where_retraining_is_closed_there_is_no_tab(
    page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint, Staged, retraining=False)
    expect(site.page.get_by_role("tab")).to_have_text(["Tag", "Grid", "Corrections"])
