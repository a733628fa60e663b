"""What a grid of one label shows and saves, without a browser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from demo import label_grid
from demo.album import Album, Look
from demo.corrections import Corrections
from demo.errors import CorrectionsError
from demo.label_grid import ABSENT, CONFIRMED, DIGEST_BYTES, NONE, OR_ABSENT, REJECTED, Decision, Said
from demo.labels import LabelSet
from demo.rows import Correction, View
from demo.tagger import Tagger

LABELS = LabelSet(("cat", "dog", "sky"))
SCORES = np.float32([[0.1, 0.9, 0.5], [0.8, 0.2, 0.5], [0.4, 0.4, 0.4], [0.6, 0.1, 0.2]])
VIEW = View((), (), "listed", ("dog",), 0.35, "m@2", ("cat", "dog"))


@pytest.fixture
def corrections(tmp_path: Path) -> Corrections:
    return Corrections(tmp_path / "corrections")


@pytest.fixture
def said(tmp_path: Path, make_image: Callable[..., bytes], make_checkpoint: Callable, request: object) -> Said:
    """Four photos, 0.png to 3.png, that a made-up model gave SCORES."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(4):
        (folder / f"{seed}.png").write_bytes(make_image(seed))
    album = Album(sorted(folder.iterdir()))
    sheet = album.sheet(Tagger(make_checkpoint(names=LABELS.names), "cpu"))
    for place, scores in enumerate(SCORES):
        album.prepared(place, lambda image: image)
        sheet.put(place, scores)
    return Said(sheet, "m@2", LABELS, 0.35)


def digest_of(said: Said, place: int) -> str:
    return hashlib.sha256(said.sheet.album.read(place)).hexdigest()


def decision(said: Said, place: int, mark: int, label: str = "cat", slider: float = 0.35) -> Decision:
    return Decision(place, digest_of(said, place)[: 2 * DIGEST_BYTES], label, mark, slider)


def shown(said: Said, label: str, rows: dict[str, Correction] | None = None) -> label_grid.Column:
    return label_grid.column(said.sheet.album, said.sheet, LABELS, label, rows or {}, lambda model: LABELS.names)


def saved_row(said: Said, corrections: Corrections, place: int, **changes: object) -> Correction:
    values = {"labels": ["cat"], "rejected": ["dog"], "reviewed": "listed", "model_labels": ["cat"]}
    values |= {"threshold": 0.5, "model": "m@1"} | changes
    return corrections.save(said.sheet.album.read(place), "png", **values)


def save(said: Said, corrections: Corrections, *decisions: Decision) -> label_grid.Saving:
    return list(label_grid.save(said.sheet.album, said, corrections, decisions))[-1]


def rows_of(said: Said, corrections: Corrections) -> dict[str, Correction]:
    return corrections.rows_of([digest_of(said, place) for place in range(4)])


def test_photos_stand_by_falling_score_and_those_without_one_at_the_end(said: Said) -> None:
    said.sheet.forget(3)
    column = shown(said, "cat")
    assert column.places.tolist() == [1, 2, 0, 3]
    np.testing.assert_array_equal(column.scores, np.float32([0.8, 0.4, 0.1, np.nan]))
    digests = [bytes.fromhex(digest_of(said, place))[:DIGEST_BYTES] for place in (1, 2, 0, 3)]
    assert column.digests == b"".join(digests)
    assert column.marks.tolist() == [NONE] * 4


def test_marks_say_what_each_row_says_of_the_label(said: Said, corrections: Corrections) -> None:
    saved_row(said, corrections, 0)
    saved_row(said, corrections, 1, reviewed="all")
    saved_row(said, corrections, 2, labels=["sky"], rejected=["cat"])
    rows = rows_of(said, corrections)
    marks = {name: shown(said, name, rows).marks for name in LABELS.names}
    places = {name: shown(said, name, rows).places.tolist() for name in LABELS.names}
    by_place = {name: dict(zip(places[name], marks[name].tolist(), strict=True)) for name in LABELS.names}
    assert by_place["cat"] == {0: CONFIRMED, 1: CONFIRMED | OR_ABSENT, 2: REJECTED, 3: NONE}
    assert by_place["dog"] == {0: REJECTED, 1: REJECTED | OR_ABSENT, 2: NONE, 3: NONE}
    assert by_place["sky"] == {0: NONE, 1: ABSENT | OR_ABSENT, 2: CONFIRMED, 3: NONE}


def test_a_label_that_a_reviewing_model_lacked_is_not_absent(said: Said, corrections: Corrections) -> None:
    saved_row(said, corrections, 1, reviewed="all")
    rows = rows_of(said, corrections)
    column = label_grid.column(said.sheet.album, said.sheet, LABELS, "sky", rows, lambda model: ("cat", "dog"))
    assert column.marks.tolist() == [NONE] * 4


def test_a_label_of_corrections_alone_shows_the_photos_that_were_decided_on(
    said: Said, corrections: Corrections
) -> None:
    saved_row(said, corrections, 2, labels=["new"])
    saved_row(said, corrections, 3, rejected=["new"])
    rows = rows_of(said, corrections)
    column = shown(said, "new", rows)
    assert column.places.tolist() == [2, 3]
    assert column.marks.tolist() == [CONFIRMED, REJECTED]
    assert np.isnan(column.scores).all()
    assert label_grid.names(LABELS, rows) == [*LABELS.names, "new"]


def test_photos_with_the_same_bytes_are_one_and_unreadable_ones_none(said: Said) -> None:
    album = said.sheet.album
    album.looks[3] = album.looks[1]
    album.problems[0] = "broken"
    assert shown(said, "cat").places.tolist() == [1, 2]


def test_most_is_to_do_where_most_photos_are_active_and_undecided(said: Said, corrections: Corrections) -> None:
    def counts() -> list[int]:
        cuts = np.float64([0.35, 0.35, 0.45])
        album, rows = said.sheet.album, rows_of(said, corrections)
        return label_grid.to_do(album, said.sheet, LABELS, cuts, rows, lambda model: known).tolist()

    known = LABELS.names
    assert counts() == [3, 2, 2]
    saved_row(said, corrections, 1, labels=["cat"], rejected=["dog"])
    assert counts() == [2, 2, 2]
    saved_row(said, corrections, 2, labels=[], rejected=[], reviewed="all")
    assert counts() == [1, 1, 2]
    known = ("cat", "sky")
    assert counts() == [1, 2, 2], "a label that the reviewing model lacked is still to do"
    known = LABELS.names
    said.sheet.forget(3)
    assert counts() == [0, 1, 2]


def test_a_new_row_lists_what_was_decided_and_what_the_model_had_active(said: Said, corrections: Corrections) -> None:
    saving = save(said, corrections, decision(said, 0, CONFIRMED, slider=0.05), decision(said, 1, REJECTED))
    assert (saving.done, saving.tried, saving.replaced, saving.left) == (2, [0, 1], [], {})
    first, second = corrections.rows()
    assert (first.labels, first.rejected, first.reviewed) == (("cat",), (), "listed")
    assert first.model_labels == ("dog", "sky", "cat")  # by falling score, its own slider counted
    assert (first.threshold, first.model) == (0.35, "m@2")
    assert (second.labels, second.rejected, second.model_labels) == ((), ("cat",), ("cat", "sky"))
    assert corrections.image_path(first).read_bytes() == said.sheet.album.read(0)


def test_two_labels_of_one_photo_make_one_row(said: Said, corrections: Corrections) -> None:
    saving = save(said, corrections, decision(said, 0, CONFIRMED), decision(said, 0, REJECTED, "sky"))
    assert saving.done == 2
    (row,) = corrections.rows()
    assert (row.labels, row.rejected) == (("cat",), ("sky",))


@pytest.mark.parametrize(
    ("mark", "labels", "rejected"),
    [
        (CONFIRMED, ("old", "cat"), ("dog",)),
        (REJECTED, ("old",), ("dog", "cat")),
        (NONE, ("old",), ("dog",)),
    ],
)
def test_a_row_that_is_there_keeps_all_it_says_of_other_labels(
    said: Said, corrections: Corrections, mark: int, labels: tuple[str, ...], rejected: tuple[str, ...]
) -> None:
    before = saved_row(said, corrections, 0, labels=["old", "cat"])
    save(said, corrections, decision(said, 0, mark))
    (row,) = corrections.rows()
    assert (row.labels, row.rejected, row.reviewed) == (labels, rejected, "listed")
    assert (row.model, row.threshold) == ("m@2", 0.35)
    assert before.saved_at.encode() in corrections.history_path.read_bytes()


def test_a_row_reviewed_in_full_goes_on_to_speak_of_the_model_it_was_reviewed_with() -> None:
    row = Correction("images/x.png", ("cat",), (), "all", False, ("cat",), 0.5, "m@1", "", "now")
    change = Decision(0, "", "new", CONFIRMED, 0.3)
    kept = label_grid.merged(row, [change], VIEW)
    assert kept == View(("cat", "new"), (), "all", ("cat",), 0.5, "m@1")
    same = label_grid.merged(replace(row, model="m@2"), [change], VIEW)
    assert same == replace(VIEW, labels=("cat", "new"), reviewed="all")


def test_a_file_that_was_replaced_is_refused_by_name_and_the_others_are_saved(
    said: Said, corrections: Corrections, tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    decisions = [decision(said, place, CONFIRMED) for place in range(4)]
    (tmp_path / "photos" / "1.png").write_bytes(make_image(9))
    (tmp_path / "photos" / "2.png").unlink()
    said.sheet.forget(3)
    saving = save(said, corrections, *decisions)
    assert (saving.done, saving.rows, saving.replaced) == (1, 1, ["1.png"])
    assert sorted(saving.tried) == [0, 1]
    assert sorted(saving.left) == [2, 3]
    assert "2.png: It is not there any more." in saving.left[2]
    assert "not tagged yet" in saving.left[3]
    (row,) = corrections.rows()
    assert row.file_name == f"images/{digest_of(said, 0)}.png"


def test_places_that_are_not_in_the_album_are_refused(said: Said, corrections: Corrections) -> None:
    saving = save(said, corrections, Decision(4, "0" * 32, "cat", CONFIRMED, 0.3))
    assert (saving.done, saving.replaced) == (0, ["Photo 5"])
    assert corrections.rows() == []


def test_hundreds_of_photos_are_saved_some_at_a_time_and_what_was_counted_is_saved(
    said: Said, corrections: Corrections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_grid, "PHOTOS_AT_ONCE", 3)
    decisions = [decision(said, place, CONFIRMED) for place in range(4)]
    saving = label_grid.save(said.sheet.album, said, corrections, decisions)
    first = next(saving)
    assert (first.done, len(corrections.rows())) == (3, 3)
    corrections.csv_path.write_bytes(b"X" + corrections.csv_path.read_bytes())
    with pytest.raises(CorrectionsError, match="not a corrections CSV of ours"):
        next(saving)
    assert (first.done, first.tried) == (3, [0, 1, 2])


def test_a_photo_that_was_not_read_yet_has_no_score_and_no_hash(said: Said) -> None:
    said.sheet.album.looks[1] = None
    column = shown(said, "cat")
    assert column.places.tolist() == [3, 2, 0, 1]
    assert np.isnan(column.scores[-1])
    assert column.digests[-DIGEST_BYTES:] == bytes(DIGEST_BYTES)
    said.sheet.album.seen(1, Look("ab" * 32, "png", (1, 1)))
    assert shown(said, "cat").places.tolist() == [1, 3, 2, 0]
