"""The checkpoint in assets/ is what its card says, and the examples beside it are what their list says."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from safetensors import safe_open

from demo import card, images
from demo.checkpoint import load_checkpoint
from demo.metrics import mean_ap
from demo.settings import EMBEDDED_CHECKPOINT, EXAMPLES, ROOT
from demo.tagger import Tagger
from demo.thresholds import MIN_POSITIVES

SCENES = ("desert", "mountain", "sea", "sunset", "trees")


@pytest.fixture(scope="module")
def embedded():
    return load_checkpoint()


@pytest.fixture(scope="module")
def tagger(embedded):
    return Tagger(embedded, "cpu")


def test_its_weights_are_fp16_safetensors_under_13_mb():
    path = EMBEDDED_CHECKPOINT / "model.safetensors"
    assert path.stat().st_size < 13_000_000
    with safe_open(path, "np") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {np.dtype(np.float16)}  # noqa: SIM118


def test_its_vocabulary_is_the_label_map(embedded):
    origins = json.loads((ROOT / "assets" / "labels.json").read_text(encoding="utf-8"))
    assert embedded.labels.names == tuple(origins)
    assert len(origins) == 61
    assert {name for name, sources in origins.items() if not sources} == set(SCENES)


def test_it_has_thresholds_and_a_curve_that_agree(embedded):
    assert 0 < embedded.threshold < 1
    curve = embedded.curve
    assert len(curve["threshold"]) == len(curve["precision"]) == len(curve["recall"]) == len(curve["f1"])
    position = curve["threshold"].index(embedded.threshold)
    assert curve["f1"][position] == max(curve["f1"])
    assert curve["f1"][position] == pytest.approx(embedded.metrics["metrics"]["micro_f1"], abs=1e-3)
    support = [embedded.metrics["labels"][name]["support"] for name in embedded.labels.names]
    is_tuned = [own is not None for own in embedded.labels.thresholds]
    assert is_tuned == [count >= MIN_POSITIVES for count in support]


def test_the_card_tells_the_figures_of_the_metrics_file(embedded):
    source = (ROOT / "model_card.md").read_text(encoding="utf-8")
    assert source == embedded.card
    assert card.figures(embedded.metrics) in source
    labels = embedded.metrics["labels"]
    for title, names in (("scenes", SCENES), ("objects", [name for name in labels if name not in SCENES])):
        defined = [labels[name]["ap"] for name in names if labels[name]["ap"] is not None]
        told = re.search(rf"\| {title} \| {len(defined)} \| [\d.–]+ \| ([\d.]+) \|", source)
        assert told, title
        assert float(told[1]) == pytest.approx(np.mean(defined), abs=5e-5)


def test_every_example_is_listed_with_its_licence_small_and_decodable():
    listed = (EXAMPLES / "LICENSES.md").read_text(encoding="utf-8")
    photos = images.find_images([EXAMPLES])
    assert len(photos) >= 8
    for path in photos:
        assert path.name in listed
        assert path.stat().st_size <= 300_000
        assert min(images.decode(path.read_bytes()).size) >= 256


@pytest.mark.parametrize(
    ("name", "label"), [("cat", "cat"), ("dogs", "dog"), ("polar-bear", "bear"), ("snowy-mountains", "mountain")]
)
def test_it_sees_what_is_plain_to_see(name, label, tagger):
    scores = tagger.tag(images.decode((EXAMPLES / f"{name}.jpg").read_bytes())).scores
    names = tagger.checkpoint.labels.names
    assert scores[names.index(label)] >= tagger.checkpoint.threshold
    assert (scores >= tagger.checkpoint.threshold).sum() <= 6


def test_its_labels_rank_the_examples_as_a_person_would(tagger):
    """A check against rows of the head that are swapped: the right photo is first for each of these labels."""
    wanted = {"cat": "cat", "dogs": "dog", "polar-bear": "bear", "sunset": "sunset", "coffee": "cup"}
    scores = tagger.scores([images.decode((EXAMPLES / f"{name}.jpg").read_bytes()) for name in wanted])
    columns = [tagger.checkpoint.labels.positions[label] for label in wanted.values()]
    assert mean_ap(scores[:, columns], np.eye(len(wanted), dtype=int)) == pytest.approx(1)
