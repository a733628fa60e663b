"""What a fine-tune is going to do, from flags and a CSV: which of the model moves, and how fast."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.errors import TableError
from demo.evaluate import read_rows
from demo.plan import Plan, make_plan
from demo.settings import parse_flags
from demo.training import LR_BACKBONE
from tests.test_finetune import row, write_rows


@pytest.fixture
def plan(tmp_path: Path, tiny_checkpoint: Path):
    """The plan of so many photos to train on and to hold out, which nobody opens; the last few decide nothing."""

    def plan(trained: int, held_out: int, *more: str, silent: int = 0) -> Plan:
        rows = []
        for number in range(trained + held_out):
            path = tmp_path / f"{number}.png"
            path.write_bytes(b"%d" % number)
            labels = ["cat"] if number < trained + held_out - silent else []
            rows.append(row(path.name, labels, is_valid=number >= trained))
        csv = write_rows(tmp_path / "c.csv", rows)
        told = ["--csv", str(csv), "--out", str(tmp_path / "out"), "--model", str(tiny_checkpoint), *more]
        return make_plan(parse_flags("finetune", told), read_rows(csv), "cpu")

    return plan


@pytest.mark.parametrize(
    ("trained", "held_out", "silent", "train"),
    [(99, 25, 0, "head"), (100, 10, 0, "norm"), (100, 9, 0, "head"), (100, 12, 3, "head"), (500, 10, 0, "full")],
)
def test_more_than_the_head_moves_where_that_can_be_measured(plan, trained, held_out, silent, train):
    recipe = plan(trained, held_out, silent=silent).recipe
    assert recipe.train == train
    assert (recipe.epochs > 0) == (train != "head")


def test_what_a_person_says_moves_is_moved_at_its_own_rate(plan):
    for train, rate in LR_BACKBONE.items():
        recipe = plan(5, 0, "--train", train).recipe
        assert (recipe.train, recipe.lr_backbone) == (train, rate)
    assert plan(5, 0, "--train", "full", "--lr-backbone", "0.5").recipe.lr_backbone == 0.5


def test_rows_that_teach_nothing_are_refused(plan):
    with pytest.raises(TableError, match="decides no cell of the 12 labels"):
        plan(0, 5)
    with pytest.raises(TableError, match="name other labels"):
        plan(5, 0, silent=5)
