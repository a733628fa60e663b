"""The table of faults says what its tests came to, and fails where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.table import ROWS, Table

OTHERS = "".join(
    f"@demand({fault!r})\ndef test_{number}(): pass\n@planted({fault!r})\ndef test_planted_{number}(): pass\n"
    for number, fault in enumerate(list(ROWS)[1:])
)
FIRST = f"@demand({next(iter(ROWS))!r})\ndef test_first(figure): figure('3 lost'); assert {{held}}\n"
CAUGHT = f"@planted({next(iter(ROWS))!r})\ndef test_first_planted(): assert {{caught}}\n"


@pytest.mark.parametrize(
    ("first", "caught", "code", "said"),
    [
        (FIRST.format(held=True), CAUGHT.format(caught=True), 0, ("held", "caught")),
        (FIRST.format(held=False), CAUGHT.format(caught=True), 1, ("not held", "caught")),
        (FIRST.format(held=True), CAUGHT.format(caught=False), 1, ("held", "not caught")),
        (FIRST.format(held=True), "", 1, ("held", "not run")),
        ("", CAUGHT.format(caught=True), 1, ("not run", "caught")),
        ("@pytest.mark.skip()\n" + FIRST.format(held=True), CAUGHT.format(caught=True), 1, ("not held", "caught")),
    ],
)
def test_a_row_is_held_when_its_tests_pass_and_its_planted_fault_is_caught(
    tmp_path: Path, first: str, caught: str, code: int, said: tuple[str, str]
) -> None:
    head = "import pytest\nfrom tests.faults.table import demand, figure, planted\n"
    (tmp_path / f"{tmp_path.name}.py").write_text(head + first + caught + OTHERS)
    table = Table(is_whole=True)
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    assert pytest.main(options, plugins=[table]) == code
    _, verdict, figures, bad = table.verdicts()[0]
    assert (verdict, bad.rpartition(": ")[2]) == said
    assert figures == ("3 lost" if first and "skip" not in first else "")
    assert {verdict for _, verdict, *_ in table.verdicts()[1:]} == {"held"}


def test_a_fault_that_the_table_does_not_have_is_an_error() -> None:
    from tests.faults.table import demand

    with pytest.raises(ValueError, match="torn head"):
        demand("torn head")
