"""The curve on one's own corrections: what counts, what is scored again, and that nobody waits for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import demo.own_curve
from demo.checkpoint import Checkpoint
from demo.corrections import Corrections
from demo.images import decode
from demo.own_curve import FROM_IMAGES, OwnCurves, reviewed_in_full
from demo.tagger import Tagger
from demo.thresholds import sweep


class Counting(Tagger):
    """Counts the images that it scores for somebody else than the page."""

    scored = 0

    def scores(self, images: list, batch_size: int = 32) -> np.ndarray:
        self.scored += len(images)
        return super().scores(images, batch_size)


@pytest.fixture
def corrections(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections")


@pytest.fixture
def tagger(make_checkpoint: Callable[..., Checkpoint]) -> Counting:
    return Counting(make_checkpoint(), "cpu")


@pytest.fixture
def save(corrections: Corrections, tagger: Tagger, make_image: Callable[..., bytes]) -> Callable[..., bytes]:
    names = tagger.checkpoint.labels.names

    def save(seed: int, reviewed: str = "all", annotator: str = "", labels: tuple[str, ...] | None = None) -> bytes:
        data = make_image(seed)
        corrections.save(
            data,
            "png",
            labels=[names[seed % 4], names[8]] if labels is None else labels,
            rejected=[names[4 + seed % 4]],
            reviewed=reviewed,
            model_labels=[names[4 + seed % 4]],
            threshold=0.4,
            model=tagger.checkpoint.identity,
            vocabulary=names,
            annotator=annotator,
        )
        return data

    return save


def looked(curves: OwnCurves, tagger: Tagger, data: bytes) -> demo.own_curve.OwnCurve | None:
    """As when the page has tagged an image; what was not known then is worked out when this returns."""
    scores = tagger.tag(decode(data)).scores
    found = curves.look(tagger, hashlib.sha256(data).hexdigest(), scores)
    curves.wait()
    return found


def test_the_curve_is_the_sweep_over_the_cells_of_images_reviewed_in_full(
    corrections: Corrections, tagger: Counting, save: Callable[..., bytes]
) -> None:
    names, curves = tagger.checkpoint.labels.names, OwnCurves(corrections, 0)
    images = [save(seed) for seed in range(FROM_IMAGES)]
    for seed in range(100, 140):
        save(seed, reviewed="listed")
    assert looked(curves, tagger, images[0]) is None, "it is worked out behind"
    found = looked(curves, tagger, images[0])
    truth = np.zeros((FROM_IMAGES, len(names)), int)
    for row in range(FROM_IMAGES):
        truth[row, [row % 4, 8]] = 1
    scores = np.stack([tagger.tag(decode(data)).scores for data in images]).astype(np.float16)
    assert found.images == FROM_IMAGES
    assert found.curve == sweep(scores, truth)
    assert tagger.scored == FROM_IMAGES - 1, "the image that was tagged is not scored again, nor those merely listed"


def test_there_is_none_under_thirty_images_and_the_thirtieth_brings_it(
    corrections: Corrections, tagger: Counting, save: Callable[..., bytes]
) -> None:
    curves = OwnCurves(corrections, 0)
    for seed in range(FROM_IMAGES - 1):
        looked(curves, tagger, save(seed))
    for seed in range(50):
        save(seed, reviewed="listed", annotator="another")
    assert looked(curves, tagger, save(0)) is None
    assert looked(curves, tagger, save(0)) is None
    last = save(FROM_IMAGES - 1)
    curves.corrected(tagger.checkpoint.identity)
    curves.wait()
    assert looked(curves, tagger, last).images == FROM_IMAGES
    assert tagger.scored == 1


def test_each_image_is_scored_once_by_each_model_and_a_new_decision_changes_the_curve(
    corrections: Corrections, tagger: Counting, save: Callable[..., bytes], make_checkpoint: Callable[..., Checkpoint]
) -> None:
    curves, other = OwnCurves(corrections, 0), Counting(make_checkpoint(1), "cpu")
    other.checkpoint.identity = "local:other@111111111111"
    images = [save(seed) for seed in range(FROM_IMAGES)]
    for model in (tagger, other):
        looked(curves, model, images[0])
        before = looked(curves, model, images[0])
    assert (tagger.scored, other.scored) == (FROM_IMAGES - 1, FROM_IMAGES - 1)
    assert looked(curves, tagger, images[0]).curve != before.curve, "each model has its own"
    save(3, labels=())
    looked(curves, other, images[0])
    assert looked(curves, other, images[0]).curve != before.curve
    assert other.scored == FROM_IMAGES - 1


def test_an_image_that_is_gone_a_damaged_csv_and_labels_of_another_model_cost_no_more_than_the_curve(
    corrections: Corrections, tagger: Counting, save: Callable[..., bytes], make_checkpoint: Callable[..., Checkpoint]
) -> None:
    curves = OwnCurves(corrections, 0)
    images = [save(seed) for seed in range(FROM_IMAGES + 1)]
    (corrections.folder / "images" / f"{hashlib.sha256(images[-1]).hexdigest()}.png").unlink()
    looked(curves, tagger, images[0])
    assert looked(curves, tagger, images[0]).images == FROM_IMAGES
    (corrections.folder / "images" / f"{hashlib.sha256(images[-2]).hexdigest()}.png").unlink()
    anew = OwnCurves(corrections, 0)
    assert [looked(anew, tagger, images[0]), looked(anew, tagger, images[0])] == [None, None], "29 can be read"
    stranger = Counting(make_checkpoint(1, ("one", "two")), "cpu")
    stranger.checkpoint.identity = "local:stranger@222222222222"
    looked(curves, stranger, images[0])
    assert looked(curves, stranger, images[0]) is None
    assert stranger.scored == 0
    with corrections.csv_path.open("ab") as file:
        file.write(b"images/%s.png,not a list,all,\n" % (b"0" * 64))
    looked(curves, tagger, images[0])
    assert looked(curves, tagger, images[0]) is None


def test_scores_are_kept_up_to_a_number_of_bytes_and_curves_as_long_as_their_model(
    corrections: Corrections,
    tagger: Counting,
    save: Callable[..., bytes],
    make_checkpoint: Callable[..., Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = len(tagger.checkpoint.labels)
    monkeypatch.setattr(demo.own_curve, "MAX_CURVE_BYTES", 2 * (FROM_IMAGES + 10) * 2 * labels)
    curves = OwnCurves(corrections, 0)
    images = [save(seed) for seed in range(FROM_IMAGES + 20)]
    for data in images:
        looked(curves, tagger, data)
    for seed in range(200):
        curves.look(tagger, f"{seed:064x}", np.zeros(labels, np.float32))
    curves.wait()
    assert len(curves._scores) == 2 * (FROM_IMAGES + 10)
    assert curves._bytes <= demo.own_curve.MAX_CURVE_BYTES
    looked(curves, tagger, images[0])
    assert looked(curves, tagger, images[0]).images == FROM_IMAGES + 10, "of more images than can be kept, the latest"
    other = Counting(make_checkpoint(1), "cpu")
    looked(curves, other, images[0])
    assert len(curves._known) == 2
    del other
    assert len(curves._known) == 1


def test_of_an_image_reviewed_in_full_all_that_is_said_counts(
    corrections: Corrections, tagger: Tagger, save: Callable[..., bytes]
) -> None:
    first, second = save(0), save(1)
    save(0, reviewed="listed", annotator="another", labels=("water",))
    save(2, reviewed="listed", labels=("not,all,reviewed",))
    merged = reviewed_in_full(corrections, 10)
    assert [len(image.rows) for image in merged] == [2, 1]
    assert [image.path.read_bytes() for image in merged] == [first, second]
    assert [image.path.read_bytes() for image in reviewed_in_full(corrections, 1)] == [second]


def test_while_somebody_tags_the_model_is_left_alone(
    corrections: Corrections, tagger: Counting, save: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    curves = OwnCurves(corrections, 2.0)
    images = [save(seed) for seed in range(FROM_IMAGES)]
    scores, rests = tagger.tag(decode(images[0])).scores, []

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            assert tagger.scored == 0
            rests.append(seconds)
            self.now += seconds
            if len(rests) < 3:
                self.now -= 0.5
                curves.look(tagger, hashlib.sha256(images[0]).hexdigest(), scores)

    monkeypatch.setattr(demo.own_curve, "time", Clock())
    assert looked(curves, tagger, images[0]) is None
    assert rests == [2.0, 2.0, 2.0]
    assert looked(curves, tagger, images[0]).images == FROM_IMAGES
