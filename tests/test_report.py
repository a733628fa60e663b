"""The report file: what it says first, that it asks for nothing, and that names stay text."""

from __future__ import annotations

import argparse
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from demo import report
from demo.evaluate import Photos
from demo.labels import LabelSet
from demo.outcome import Scores, judged_rows, measure

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "${1+1} $title",
    "</td></table><script>x",
    "\u202egnp.exe",
    "a" * 10_000,
    "&amp;",
)
HISTORY = [{"phase": "head", "epoch": 1, "loss": 0.5}, {"phase": "backbone", "epoch": 1, "loss": 0.2}]


class Outline(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.links, self.said = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.said.append(data)


@pytest.fixture
def photos(tmp_path, make_image) -> Photos:
    """Sixty photos, of which twenty are held out, and six labels."""
    paths = []
    for seed in range(60):
        paths.append(tmp_path / f"{seed}.png")
        paths[-1].write_bytes(make_image(seed, (40, 30)))
    targets = np.random.default_rng(0).integers(0, 2, (60, 6)).astype(np.float32)
    return Photos(paths, [path.name for path in paths], targets, np.arange(60) % 3 == 0)


def scores(photos: Photos, skill: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(size=photos.targets.shape)
    return (1 / (1 + np.exp(-skill * (2 * photos.targets - 1) - noise))).astype(np.float32)


def metrics_of(photos: Photos, checkpoint, names=tuple("abcdef"), flip: tuple = ()) -> dict:
    """The metrics of a run whose new model knows more than its old one."""
    unseen, old = scores(photos, 2.0), scores(photos, 0.5)
    for row, column in flip:
        photos.targets[row, column] = 1 - photos.targets[row, column]
    new = replace(checkpoint, labels=LabelSet(names), identity="local:<b>new</b>@000000000000")
    flags = argparse.Namespace(csv="corrections.csv", seed=0, target_precision=None)
    said = Scores("valid", unseen[photos.is_valid], unseen, old)
    return measure(new, checkpoint, photos, said, said, flags).metrics


def page(photos: Photos, metrics: dict) -> str:
    return report.page(metrics, HISTORY, dict(zip(photos.file_names, photos.paths, strict=True)))


def test_the_verdict_stands_first_and_the_figures_below_it(photos, loaded_tiny):
    metrics = metrics_of(photos, loaded_tiny)
    said = " ".join(" ".join(Outline(page(photos, metrics)).said).split())
    assert metrics["verdict"] == "better"
    assert said.index(metrics["summary"]) < said.index("Before and after") < said.index("Predict nothing")
    assert f"{metrics['comparison']['old']['map']:.3f}" in said
    assert "small copies of" in said


def test_it_asks_for_nothing_and_runs_nothing(photos, loaded_tiny):
    outline = Outline(page(photos, metrics_of(photos, loaded_tiny)))
    assert {"script", "link", "iframe", "object", "base"} & set(outline.tags) == set()
    assert {link.partition(",")[0] for link in outline.links} == {"data:image/jpeg;base64"}
    text = page(photos, metrics_of(photos, loaded_tiny))
    assert "default-src 'none'" in text
    assert "http" not in text.replace('http-equiv="Content', "")


def test_label_names_are_text_whatever_they_hold(photos, loaded_tiny):
    plain = Outline(page(photos, metrics_of(photos, loaded_tiny)))
    hostile = Outline(page(photos, metrics_of(photos, loaded_tiny, HOSTILE)))
    assert sorted(plain.tags) == sorted(hostile.tags)
    for name in HOSTILE[:4]:
        assert name in hostile.said


def test_planted_label_errors_are_listed_with_their_photos(photos, loaded_tiny):
    planted = [(5, 0), (7, 2), (13, 4)]
    metrics = metrics_of(photos, loaded_tiny, flip=planted)
    listed = {(cell["file_name"], cell["label"]) for cell in metrics["suspects"]["cells"]}
    assert {(f"{row}.png", "abcdef"[column]) for row, column in planted} <= listed
    assert any("look wrong" in line for line in metrics["warnings"])
    assert "Likely label errors" in page(photos, metrics)


def test_a_photo_that_has_gone_leaves_a_gap_and_no_error(photos, loaded_tiny):
    metrics = metrics_of(photos, loaded_tiny)
    for path in photos.paths:
        path.unlink()
    outline = Outline(page(photos, metrics))
    assert "img" not in outline.tags
    assert "not readable" in outline.said


def test_on_few_images_every_one_is_judged_and_on_many_the_held_out_ones(photos):
    told = Scores("valid", np.zeros(0), scores(photos, 1.0), scores(photos, 1.0))
    rows, by = judged_rows(photos, told)
    assert (rows == photos.is_valid).all()
    assert by == "valid"
    few = photos.where(np.arange(60) < 49)
    rows, by = judged_rows(few, replace(told, unseen=told.unseen[:49], old=told.old[:49]))
    assert rows.all()
    assert by == "folds"
    nobody = replace(photos, is_valid=np.zeros(60, bool))
    assert judged_rows(nobody, told)[0].all()
