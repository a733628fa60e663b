"""Label sets: what is refused, and that `selected_tags.csv` gives back every name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.errors import CheckpointError
from demo.labels import LabelSet

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


def read(folder: Path, text: str) -> LabelSet:
    (folder / "selected_tags.csv").write_bytes(text.encode())
    return LabelSet.from_csv(folder / "selected_tags.csv")


def test_positions_are_logit_order() -> None:
    labels = LabelSet(("zebra", "ant"))
    assert labels.positions == {"zebra": 0, "ant": 1}
    assert len(labels) == 2


def test_ratings_exclude_each_other() -> None:
    assert LabelSet(("safe", "hat"), ("rating", "general")).exclusive == {"rating"}
    assert LabelSet(("safe", "hat"), ("", "general")).exclusive == frozenset()
    assert LabelSet(("safe", "hat")).exclusive == frozenset()


@given(st.lists(st.tuples(NAMES, NAMES, st.none() | st.integers(0, 10_000)), min_size=1, unique_by=lambda row: row[0]))
def test_any_label_set_comes_back_from_its_csv(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int | None]]
) -> None:
    names, categories, thresholds = zip(*rows, strict=True)
    labels = LabelSet(names, categories, tuple(None if value is None else value / 10_000 for value in thresholds))
    again = read(tmp_path_factory.mktemp("labels"), labels.to_csv())
    assert again == labels
    assert again.thresholds == (labels.thresholds if any(value is not None for value in thresholds) else ())


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\ud83d\ude00"])
def test_a_label_that_utf8_cannot_keep_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="UTF-8") as error:
        LabelSet(("cat", name))
    str(error.value).encode()


def test_tags_named_null_nan_and_na_are_names_like_any_other(tmp_path: Path) -> None:
    names = ("null", "nan", "NA", "None", "1", "true", "-", "=1+1")
    text = "name,category,best_threshold\n" + "".join(f"{name},general,0.5\n" for name in names)
    assert read(tmp_path, text).names == names


def test_quotes_commas_and_line_breaks_in_names_are_kept(tmp_path: Path) -> None:
    names = ('a "b"', "a,b", "a\nb", "a\r\nb", "\\m/", "<img onerror=x>", "${1+1}", " padded ", "\u202eabc")
    assert read(tmp_path, LabelSet(names).to_csv()).names == names


def test_columns_may_come_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    labels = read(tmp_path, "count,best_threshold,name,category\n10,0.3,cat,animal\n20,,sky,place\n")
    assert labels.names == ("cat", "sky")
    assert labels.categories == ("animal", "place")
    assert labels.thresholds == (0.3, None)


def test_without_optional_columns_there_are_no_categories_and_no_thresholds(tmp_path: Path) -> None:
    labels = read(tmp_path, "name\ncat\nsky\n")
    assert labels == LabelSet(("cat", "sky"))
    assert labels.thresholds == ()


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffname,category\ncat,a\n").names == ("cat",)


def test_a_threshold_keeps_its_value_to_the_fourth_place(tmp_path: Path) -> None:
    labels = LabelSet(("a", "b"), (), (0.12345, None))
    first, second = read(tmp_path, labels.to_csv()).thresholds
    assert first == pytest.approx(0.12345, abs=5.1e-5)
    assert second is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((("a", "b", "a"),), ["'a'", "twice"]),
        ((("a", ""),), ["number 1", "empty"]),
        ((("a", "b"), ("x",)), ["2 label names", "1 categories"]),
        ((("a", "b"), (), (0.5,)), ["2 label names", "1 thresholds"]),
        ((("a",), (), (1.5,)), ["1.5", "[0, 1]"]),
        ((("a",), (), (-0.1,)), ["-0.1"]),
        ((("a",), (), (float("nan"),)), ["nan"]),
    ],
)
def test_what_is_wrong_with_a_label_set_is_named(arguments: tuple, words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        LabelSet(*arguments)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no column `name`"]),
        ("name\n", ["no column `name`"]),
        ("tag,category\ncat,a\n", ["no column `name`"]),
        ("name,best_threshold\ncat,high\n", ["no number", "high"]),
        ("name,category\ncat\n", ["line 2"]),
        ("name,category\ncat,a,b\n", ["line 2"]),
        ("name,category\ncat,a\ncat,b\n", ["'cat'", "twice"]),
    ],
)
def test_what_is_wrong_with_a_csv_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(tmp_path, text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_csv_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "selected_tags.csv").write_bytes(b"name\nm\xfcde\n")
    with pytest.raises(CheckpointError, match=r"selected_tags\.csv cannot be read"):
        LabelSet.from_csv(tmp_path / "selected_tags.csv")
