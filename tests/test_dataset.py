"""Partly known targets, mosaics of them, and who is drawn how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from demo.dataset import KNOWN, SOFT, UNUSED, Cells, TrainingPhotos, read_image, repeats, require_readable, views
from demo.errors import BadInput
from demo.preprocessing import Preprocess

DATA = {"input_size": (3, 33, 48), "mean": (0.5,) * 3, "std": (0.5,) * 3}
TARGETS = np.array([[1, 0, -1, -1]], np.float32)
TEACHER = np.array([[0.2, 0.9, 0.7, np.nan]], np.float32)


def test_unknown_cells_follow_the_old_model_and_known_ones_the_person():
    cells = Cells.build(TARGETS, "distill", TEACHER)
    assert cells.values[0] == pytest.approx([1, 0, 0.7, 0])
    assert cells.kind[0].tolist() == [KNOWN, KNOWN, SOFT, UNUSED]


def test_a_new_label_is_softly_absent_where_nobody_looked_and_learns_nothing_where_nobody_ever_did():
    targets = np.array([[1, 0, -1, -1], [-1, -1, -1, 1]], np.float32)
    fresh = np.full((2, 4), np.nan, np.float32)
    cells = Cells.build(targets, "distill", fresh)
    assert cells.values.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert cells.kind.tolist() == [[KNOWN, KNOWN, UNUSED, SOFT], [SOFT, SOFT, UNUSED, KNOWN]]


def test_unknown_cells_can_be_left_out_or_counted_as_absent():
    assert Cells.build(TARGETS, "ignore", TEACHER).kind[0].tolist() == [KNOWN, KNOWN, UNUSED, UNUSED]
    negative = Cells.build(TARGETS, "negative", TEACHER)
    assert negative.kind[0].tolist() == [KNOWN] * 4
    assert negative.values[0].tolist() == [1, 0, 0, 0]


def test_a_share_of_the_teacher_goes_into_known_cells_that_it_has_a_word_on():
    cells = Cells.build(np.array([[1, 0, -1, 1]], np.float32), "distill", TEACHER, teacher_share=0.5)
    assert cells.values[0] == pytest.approx([0.6, 0.45, 0.7, 1])


@pytest.fixture
def photos(tmp_path, make_image):
    paths = []
    for seed in range(4):
        paths.append(tmp_path / f"{seed}.png")
        paths[-1].write_bytes(make_image(seed, (80, 60)))
    return paths


def grid(photos, targets, teacher=None, **more):
    cells = Cells.build(np.asarray(targets, np.float32), "distill", teacher, **more)
    return TrainingPhotos(photos, cells, Preprocess(DATA), seed=0, mosaic=1.0)


def test_a_grid_has_what_one_of_its_photos_has_and_lacks_only_what_all_lack(photos):
    # rows 1 to 3 are the same, so which photos a grid draws does not matter below
    targets = [[1, 0, 0, -1]] + [[0, 0, -1, 0]] * 3
    items = grid(photos, targets, np.full((4, 4), 0.25, np.float32))
    assert (items[0][1][0], items[0][2][0]) == (1, KNOWN)
    pixels, values, kind = items[1]
    assert pixels.shape == (3, 33, 48)
    assert torch.isfinite(pixels).all()
    assert kind[1] == KNOWN
    assert values[1] == 0
    assert kind[2] == SOFT
    assert values[2] == pytest.approx(0.25)


def test_a_grid_never_turns_a_known_absence_into_a_presence(photos):
    items = grid(photos, [[0]] * 4, np.full((4, 1), 0.9, np.float32), teacher_share=0.6)
    _, values, kind = items[0]
    assert kind.tolist() == [KNOWN]
    assert values[0] == pytest.approx(0.54)
    present = grid(photos, [[1]] * 4, np.full((4, 1), 0.1, np.float32), teacher_share=0.6)
    assert present[0][2].tolist() == [KNOWN]


def test_an_item_depends_on_the_seed_the_epoch_and_its_number_alone(photos):
    cells = Cells.build(np.zeros((4, 1), np.float32), "ignore")
    items = TrainingPhotos(photos, cells, Preprocess(DATA), seed=3, mosaic=0.5)
    first = items[2][0]
    torch.manual_seed(99)
    assert torch.equal(items[2][0], first)
    items.epoch = 1
    assert not torch.equal(items[2][0], first)


def test_the_quarters_overlap_and_reach_every_corner():
    image = Image.new("RGB", (90, 45))
    whole, *quarters = views(image)
    assert whole is image
    assert [quarter.size for quarter in quarters] == [(50, 25)] * 4


def test_rare_labels_are_drawn_more_often_and_none_is_lost():
    targets = np.zeros((100, 2))
    targets[:, 0] = 1
    targets[:4, 1] = 1
    drawn = repeats(targets, 0.16, np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=100)
    assert counts.min() == 1
    assert counts[:4].tolist() == [2] * 4
    assert sorted(repeats(targets, 0.0, np.random.default_rng(0)).tolist()) == list(range(100))


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no")
    with pytest.raises(BadInput, match=r"bad\.png"):
        read_image(tmp_path / "bad.png")
    with pytest.raises(BadInput, match=r"2 of 2 images(.|\n)*gone\.png"):
        require_readable([tmp_path / "bad.png", tmp_path / "gone.png"], Preprocess(DATA))


def test_photos_are_mirrored_unless_that_is_switched_off(tmp_path):
    wide = np.zeros((64, 64, 3), np.uint8)
    wide[:, :32] = 255
    Image.fromarray(wide).save(tmp_path / "left.png")

    def is_left_brighter(flip):
        cells = Cells.build(np.ones((32, 1), np.float32), "ignore")
        items = TrainingPhotos([tmp_path / "left.png"] * 32, cells, Preprocess(DATA), 0, min_crop=1.0, flip=flip)
        return [
            bool(pixels[..., 0].mean() > pixels[..., -1].mean()) for pixels, _, _ in map(items.__getitem__, range(32))
        ]

    assert 0 < sum(is_left_brighter(True)) < 32
    assert all(is_left_brighter(False))
