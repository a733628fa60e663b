"""The table of faults: what each one demands, what it came to in this run, and how its planted fault fared.

A test carries `@demand("torn tail")` where it shows that a demand is held, and says what it measured with the fixture
`figure`; `@planted("torn tail")` where it shows that the check catches a bad implementation. A row is *held* when
all of its tests passed, and its planted fault is *caught* when all of those passed. With `--fault-table` a row that
nothing tested, or whose planted fault nothing tested, is a failure too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

ROWS = {
    "eight writers, kill -9": "read, modify, write back",
    "torn tail": "append without healing",
    "disk full": "unchecked write",
    "power loss": "flush only",
    "save cost": "rescan on save",
    "malformed image": "bare Image.open",
    "decompression bomb": "Pillow's default limit",
    "disguised formats": "trusting the name",
    "body size": "Gradio's max_file_size alone",
    "overload": "unlimited queue",
    "file theft": 'allowed_paths=["."]',
    "hostile label names": "innerHTML",
    "spreadsheet formulas": "plain join",
    "hostile weights": "torch.load",
    "Hub faults": "a traceback",
    "token": "printing settings",
    "sync, kill -9": "not looking at what is there",
    "retraining": "writing in place",
    "poisoned labels": "none of it",
    "two users": "module-level state",
}
"""The bad implementation that the tests of a fault must catch, by fault."""


def demand(fault: str) -> pytest.MarkDecorator:
    return pytest.mark.demand(_known(fault))


def planted(fault: str) -> pytest.MarkDecorator:
    return pytest.mark.planted(_known(fault))


def _known(fault: str) -> str:
    if fault not in ROWS:
        raise ValueError(f"No row of the table is called {fault!r}.")
    return fault


@dataclass
class Tally:
    """What the tests of one row, or of its planted fault, came to; figures in the order of the tests."""

    outcomes: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def verdict(self, good: str) -> str:
        if not self.outcomes:
            return "not run"
        return good if set(self.outcomes) == {"passed"} else f"not {good}"


class Table:
    """The pytest plugin that gathers the rows of one run and prints them at its end."""

    def __init__(self, is_whole: bool) -> None:
        self.is_whole = is_whole
        self.tallies = {(kind, fault): Tally() for kind in ("demand", "planted") for fault in ROWS}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if report.when == "call" or report.outcome != "passed":
            for kind in ("demand", "planted"):
                for mark in item.iter_markers(kind):
                    tally = self.tallies[kind, mark.args[0]]
                    tally.outcomes.append(report.outcome)
                    if kind == "demand":
                        tally.figures += [said for name, said in report.user_properties if name == "figure"]
        return report

    def verdicts(self) -> list[tuple[str, str, str, str]]:
        """Fault, verdict, figures, and what became of the planted fault."""
        return [
            (
                fault,
                self.tallies["demand", fault].verdict("held"),
                "; ".join(self.tallies["demand", fault].figures),
                f"{bad}: {self.tallies['planted', fault].verdict('caught')}",
            )
            for fault, bad in ROWS.items()
        ]

    @property
    def is_held(self) -> bool:
        return all(tally.verdict("held") == "held" for tally in self.tallies.values())

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.is_whole and not self.is_held and not session.exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.is_whole:
            return
        terminalreporter.section("faults")
        for fault, verdict, figures, bad in self.verdicts():
            terminalreporter.write_line(f"{fault:<24}{verdict:<10}{bad}")
            for said in filter(None, figures.split("; ")):
                terminalreporter.write_line(f"{'':<24}{said}")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A function that says in the table what a test measured."""
    return lambda said: record_property("figure", said)
