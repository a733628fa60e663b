"""The report file in Chromium: nothing is asked for, nothing sticks out of a phone. Its names are in tests/faults."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from demo import report
from demo.checkpoint import Checkpoint
from demo.evaluate import Photos
from demo.labels import LabelSet
from demo.outcome import Scores, measure

TAG = "<img src=//example.org/x onerror=document.title='hit'>"
NAMES = (TAG, "${1+1}", "\u202egnp.exe", "a" * 10_000, "<script>", "猫")


def write_report(folder: Path, make_image: Callable[..., bytes], loaded_tiny: Checkpoint) -> Path:
    """A report of sixty photos and six labels with hostile names."""
    paths = [folder / f"{seed}.png" for seed in range(60)]
    for seed, path in enumerate(paths):
        path.write_bytes(make_image(seed, (40, 30)))
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, (60, 6)).astype(np.float32)
    scores = (1 / (1 + np.exp(-2 * (2 * targets - 1) - rng.normal(size=targets.shape)))).astype(np.float32)
    photos = Photos(paths, [path.name for path in paths], targets, np.arange(60) % 3 == 0)
    new = replace(loaded_tiny, labels=LabelSet(NAMES))
    flags = argparse.Namespace(csv="c.csv", seed=0, target_precision=None)
    measured = Scores("valid", scores[photos.is_valid], scores, scores[::-1].copy())
    metrics = measure(new, loaded_tiny, photos, measured, measured, flags).metrics
    history = [{"phase": "head", "epoch": epoch, "loss": 1 / epoch} for epoch in range(1, 9)]
    file = folder / "report.html"
    file.write_text(report.page(metrics, history, dict(zip(photos.file_names, paths, strict=True))), encoding="utf-8")
    return file


@pytest.fixture
def written(tmp_path: Path, make_image: Callable[..., bytes], loaded_tiny: Checkpoint) -> Path:
    return write_report(tmp_path, make_image, loaded_tiny)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_it_fits_and_its_words_stand_out(page: Page, written: Path, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    page.goto(written.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sticking_out = """[...document.querySelectorAll('section *')].filter(element =>
        element.getBoundingClientRect().right > element.closest('section').getBoundingClientRect().right + 1).length"""
    assert page.evaluate(sticking_out) == 0
    for selector in (".lead", ".quiet", ".better"):
        assert contrast(page, selector) >= 4.5


def contrast(page: Page, selector: str) -> float:
    """The contrast of an element's text with the opaque ground behind it (WCAG 2.2), from 1 to 21."""
    return page.eval_on_selector(
        selector,
        """element => {
            const light = colour => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(part => part / 255)
                    .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            let ground = element;
            while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
            const pair = [light(getComputedStyle(element).color), light(getComputedStyle(ground).backgroundColor)];
            return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        }""",
    )
