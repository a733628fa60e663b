"""Held-out rows and folds that keep labels in proportion and copies together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.splits import assign, folds, held_out


def case(rows: int, labels: int, seed: int, unknown: float = 0.0) -> tuple[np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    frequency = rng.random(labels) ** 3
    targets = (rng.random((rows, labels)) < frequency).astype(np.float32)
    targets[rng.random(targets.shape) < unknown] = -1
    return targets, [f"{number:04}" for number in range(rows)]


def test_every_label_is_held_out_in_proportion_where_a_draw_by_chance_is_not():
    targets, groups = case(400, 20, seed=0, unknown=0.3)
    chance = np.random.default_rng(0).permutation(400) < 80
    off = {}
    for name, side in (("stratified", held_out(targets, groups)), ("chance", chance)):
        present = targets == 1
        off[name] = np.abs(present[side].sum(0) - 0.2 * present.sum(0))
    assert off["stratified"].max() <= 5
    assert off["stratified"].sum() < off["chance"].sum() / 2


def test_about_a_fifth_is_held_out():
    targets, groups = case(200, 8, seed=1)
    assert 34 <= held_out(targets, groups).sum() <= 46


def test_folds_are_of_like_size_and_each_has_its_part_of_every_common_label():
    targets, groups = case(100, 6, seed=2)
    fold = folds(targets, groups)
    assert sorted(np.unique(fold)) == [0, 1, 2, 3, 4]
    assert np.bincount(fold).min() >= 15
    common = (targets == 1).sum(0) >= 10
    assert all((targets[fold == number] == 1).sum(0)[common].min() >= 1 for number in range(5))


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_copies_of_one_image_stay_on_one_side_and_nobody_is_left_over(rows, labels, seed):
    rng = np.random.default_rng(seed)
    targets = rng.integers(-1, 2, (rows, labels)).astype(np.float32)
    groups = [f"g{number}" for number in rng.integers(0, max(rows // 2, 1), rows)]
    for side in (held_out(targets, groups).astype(int), folds(targets, groups)):
        assert side.shape == (rows,)
        assert side.min() >= 0
        for group in set(groups):
            assert len({number for number, name in zip(side, groups, strict=True) if name == group}) == 1


def test_the_split_goes_by_seed_and_content_and_not_by_the_order_of_rows():
    targets, groups = case(60, 5, seed=3)
    side = held_out(targets, groups)
    assert (side == held_out(targets, groups)).all()
    assert (side != held_out(targets, groups, seed=1)).any()
    shuffled = np.random.default_rng(0).permutation(60)
    again = held_out(targets[shuffled], [groups[row] for row in shuffled])
    assert (again == side[shuffled]).all()


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_one_row_is_trained_on_and_a_label_on_one_side_only_is_no_error(rows):
    targets, groups = case(rows, 3, seed=4)
    assert not held_out(targets, groups).any()
    assert len(folds(targets, groups)) == rows
    lonely = np.float32([[1, -1], [-1, 1], [-1, 1]])
    assert set(assign(lonely, ["a", "b", "c"], (0.5, 0.5), 0)) == {0, 1}
