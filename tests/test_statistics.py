"""Counts by label: right after every save, replacement and deletion, whoever made them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo.corrections import Corrections
from demo.errors import CorrectionsError
from demo.statistics import TABLE_LABELS, LabelFigures, Statistics, Together

NAMES = ("cat", "dog", "tree")


@pytest.fixture
def corrections(tmp_path):
    return Corrections(tmp_path)


def save(corrections, image, labels=(), rejected=(), active=(), annotator=""):
    values = {"labels": list(labels), "rejected": list(rejected), "model_labels": list(active), "annotator": annotator}
    return corrections.save(image, "png", reviewed="listed", threshold=0.5, model="m", **values)


def figures(statistics, text="", count=100):
    return {label.name: label for label in statistics.labels(text, count)[0]}


def test_a_label_is_counted_as_confirmed_added_rejected_and_false_alarm(corrections):
    save(corrections, b"1", ["cat", "dog"], ["tree"], ["cat", "tree"])
    save(corrections, b"2", ["cat"], ["dog"], ["cat"])
    found = figures(Statistics(corrections))
    assert found["cat"] == LabelFigures("cat", 2, 0, 0, 0, (("dog", 1),))
    assert found["dog"] == LabelFigures("dog", 1, 1, 1, 0, (("cat", 1),))
    assert found["tree"] == LabelFigures("tree", 0, 0, 1, 1, ())
    assert [found[name].error_rate for name in NAMES] == [0, 0.5, 1]


def test_many_errors_come_before_one_and_a_sure_error_before_a_likely_one():
    def surely(confirmed, added, rejected, false_alarms):
        return LabelFigures("x", confirmed, added, rejected, false_alarms).surely_wrong

    assert surely(0, 0, 20, 20) > surely(0, 0, 1, 1) > surely(1, 0, 0, 0) == 0
    assert surely(100, 50, 0, 0) > surely(2, 1, 0, 0)
    assert surely(0, 0, 10, 10) == pytest.approx(0.7225, abs=1e-4)  # of the published interval for 10 of 10


def test_the_most_frequent_labels_are_set_against_each_other(corrections):
    save(corrections, b"1", ["cat", "dog"])
    save(corrections, b"2", ["dog", "tree"], ["cat"])
    save(corrections, b"3", ["dog"])
    save(corrections, b"4", ["cat"])
    statistics = Statistics(corrections)
    assert statistics.together() == Together(("dog", "cat", "tree"), [[3, 1, 1], [1, 2, 0], [1, 0, 1]])
    save(corrections, b"5", ["cat", "dog"])
    assert statistics.together().counts == [[4, 2, 1], [2, 3, 0], [1, 0, 1]]
    save(corrections, b"6", [f"label {number}" for number in range(100)])
    assert statistics.together().names[:2] == ("dog", "cat")
    assert len(statistics.together().names) == len(statistics.together().counts) == TABLE_LABELS


def test_an_unchanged_file_is_not_read_again(corrections, monkeypatch):
    save(corrections, b"1", ["cat"])
    statistics = Statistics(corrections)
    assert statistics.totals()["rows"] == 1
    monkeypatch.setattr(Corrections, "lines", lambda _: pytest.fail("read again"))
    assert statistics.totals()["rows"] == 1
    assert figures(statistics)["cat"].confirmed == 1


def test_only_new_lines_are_parsed(corrections, monkeypatch):
    for image in (b"1", b"2"):
        save(corrections, image, ["cat"])
    statistics = Statistics(corrections)
    statistics.totals()
    parsed, parse = [], Corrections.row
    monkeypatch.setattr(Corrections, "row", lambda self, line, at: parsed.append(at) or parse(self, line, at))
    save(corrections, b"3", ["dog"])
    assert statistics.totals()["images"] == 3
    assert parsed == [4]


def test_search_finds_inside_names_and_counts_all_that_match(corrections):
    save(corrections, b"1", ["Hot dog", "dog", "cat"])
    found, matching = Statistics(corrections).labels("DOG", 1)
    assert (len(found), matching) == (1, 2)


def test_the_latest_save_comes_first(corrections):
    saved = [save(corrections, b"%d" % number) for number in range(3)]
    statistics = Statistics(corrections)
    assert statistics.latest(0, 2) == saved[:0:-1]
    assert statistics.latest(2, 2) == saved[:1]


def test_a_damaged_row_is_named_and_nothing_is_counted_twice_after_its_repair(corrections):
    save(corrections, b"1", ["cat"])
    whole = corrections.csv_path.read_bytes()
    statistics = Statistics(corrections)
    corrections.csv_path.write_bytes(whole + b"x,y\n")
    for _ in range(2):
        with pytest.raises(CorrectionsError, match="line 3"):
            statistics.totals()
    corrections.csv_path.write_bytes(whole)
    assert figures(statistics)["cat"].confirmed == 1


ACTS = st.tuples(st.integers(0, 2), st.sampled_from(["", "ann"]), st.lists(st.integers(0, 2), min_size=3, max_size=3))


@settings(max_examples=25, deadline=None)
@given(acts=st.lists(st.one_of(ACTS, st.integers(0, 9)), max_size=10))
def test_after_any_saves_and_deletions_the_counts_are_those_of_a_fresh_look(acts, tmp_path_factory):
    corrections = Corrections(tmp_path_factory.mktemp("c"))
    statistics = Statistics(corrections)
    for act in acts:
        if isinstance(act, tuple):
            image, annotator, cells = act
            said = {value: [n for n, cell in zip(NAMES, cells, strict=True) if cell == value] for value in (1, 2)}
            save(corrections, b"%d" % image, said[1], said[2], NAMES[:2], annotator)
        elif rows := corrections.rows():
            row = rows[act % len(rows)]
            corrections.delete(row.file_name, row.annotator)
        fresh = Statistics(corrections)
        assert statistics.totals() == fresh.totals()
        assert statistics.labels("", 9) == fresh.labels("", 9)
        assert statistics.latest(0, 9) == fresh.latest(0, 9)
        assert statistics.together() == fresh.together()
