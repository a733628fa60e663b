from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from demo import ordering
from demo.album import Album, Look
from demo.walk import Walk

NAN = np.nan
SCORES = np.array([[0.9, 0.1], [0.45, 0.1], [NAN, NAN], [0.6, 0.55]], np.float32)
THRESHOLDS = np.array([0.5, 0.5], np.float32)


@pytest.fixture
def walk() -> Walk:
    return Walk(Album([Path(f"{number}.png") for number in range(5)]))


def looks(walk: Walk) -> None:
    for place in range(5):
        walk.album.looks[place] = Look(str(place), "png", (1, 1))


def test_uncertain_photos_have_a_label_near_its_threshold() -> None:
    ranks = ordering.uncertain(SCORES, THRESHOLDS)
    np.testing.assert_allclose(ranks, [0.4, 0.05, NAN, 0.05], atol=1e-6)
    assert ordering.order(ranks).tolist()[-1] == 2


def test_rare_photos_have_a_label_that_few_have_and_those_without_one_come_after() -> None:
    ranks = ordering.rare(SCORES, THRESHOLDS)
    np.testing.assert_allclose(ranks, [2, 5, NAN, 1])
    assert ordering.order(ranks).tolist() == [3, 0, 1, 2]


def test_contradicted_photos_are_those_where_the_model_says_otherwise_than_the_person() -> None:
    ranks = ordering.contradicted(SCORES, THRESHOLDS, {0: ([0], [1]), 1: ([0, 1], []), 3: ([0], [1])})
    assert ordering.order(ranks).tolist() == [1, 3, 0, 2]
    np.testing.assert_allclose(ranks, [0, -2, NAN, -1])


def test_no_photos_have_no_ranks() -> None:
    none = SCORES[:0]
    assert len(ordering.uncertain(none, THRESHOLDS)) == len(ordering.rare(none, THRESHOLDS)) == 0


def test_a_shuffle_has_every_photo_once_and_depends_on_the_seed() -> None:
    first = ordering.shuffled(100, 1)
    assert sorted(first) == list(range(100))
    assert (first == ordering.shuffled(100, 1)).all()
    assert (first != ordering.shuffled(100, 2)).any()


def test_next_passes_what_is_done_and_comes_back_to_what_was_skipped(walk: Walk) -> None:
    walk.sort("random", np.array([4, 2, 0, 1, 3]))
    assert walk.ahead({4}) == [2, 0, 1, 3]
    walk.place = 2
    walk.skipped.add(2)
    assert walk.ahead({4, 0}) == [1, 3]
    walk.place = 3
    assert walk.ahead({4, 0}) == [1, 2]
    assert walk.ahead({4, 0, 1}) == [2]
    assert walk.ahead({4, 0, 1, 2}) == []


def test_back_is_the_photo_before_in_the_order(walk: Walk) -> None:
    walk.sort("random", np.array([4, 2, 0, 1, 3]))
    walk.place = 0
    assert walk.number == 3
    assert walk.preceding() == 2
    walk.place = 4
    assert walk.preceding() is None


def test_photos_that_come_later_stand_at_the_end(walk: Walk) -> None:
    walk.sort("random", np.array([4, 2, 0, 1, 3]))
    walk.album.photos.append(walk.album.photos[0])
    assert walk.order.tolist() == [4, 2, 0, 1, 3, 5]


def test_a_letter_tells_how_each_photo_stands(walk: Walk) -> None:
    looks(walk)
    walk.skipped |= {1, 2}
    walk.album.problems[4] = "cut off"
    assert walk.states({"2", "3"}, {"3"}) == "tsdef"


def test_what_is_doubted_is_so_until_it_is_opened_or_gone_through_otherwise(walk: Walk) -> None:
    walk.place = 2
    walk.skipped |= {0, 3}
    walk.sort("disagree", np.array([4, 2, 0, 1, 3]), {4: "a", 2: "b", 0: "c"})
    assert walk.doubted == {4: "a", 0: "c"}  # the open one is looked at
    assert walk.ahead({2}) == [0, 1, 4, 3]  # they come in their turn, though they were gone on from
    walk.enter(4)
    assert (walk.place, walk.is_begun, walk.doubted) == (4, True, {0: "c"})
    walk.sort("given", np.arange(5))
    assert not walk.doubted


def test_an_order_by_rank_is_gone_through_from_its_front(walk: Walk) -> None:
    walk.enter(0)
    walk.sort("uncertain", np.array([4, 2, 0, 1, 3]), ranked=("m", 5))
    assert walk.ahead(()) == [4, 2, 1, 3]
    walk.enter(4)
    assert walk.ahead(()) == [2, 0, 1, 3]
    walk.enter(1)
    walk.sort("given", np.arange(5))
    assert walk.ahead(()) == [2, 3, 4, 0]
