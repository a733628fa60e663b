"""requirements.txt, its lower bounds, and the versions that are locked."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.lowest import REQUIREMENTS, lowest

ROOT = REQUIREMENTS.parent
PAST_ADVISORIES = {"gradio": "6.20", "pillow": "12.3", "torch": "2.10"}
"""Gradio CVE-2026-48545 and eight before it, Pillow CVE-2026-59199 and torch CVE-2026-24747 are fixed there."""


def requirements(path: Path) -> list[Requirement]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if re.match(r"\w", line)]


def test_every_runtime_need_has_a_lower_bound_that_can_be_installed_alone() -> None:
    assert [Requirement(line).name for line in lowest(REQUIREMENTS.read_text())] == [
        need.name for need in requirements(REQUIREMENTS)
    ]
    with pytest.raises(ValueError, match="torch"):
        lowest("gradio>=6\ntorch\n")


def test_the_lower_bounds_are_past_the_advisories() -> None:
    bounds = {need.name: need.specifier for need in requirements(REQUIREMENTS)}
    for name, fixed in PAST_ADVISORIES.items():
        (bound,) = bounds[name]
        assert bound.operator == ">="
        assert Version(bound.version) >= Version(fixed)


def test_what_is_locked_satisfies_every_need_and_is_what_these_tests_run_on() -> None:
    locked = {need.name.lower().replace("_", "-"): need for need in requirements(ROOT / "requirements.lock")}
    for need in [*requirements(REQUIREMENTS), *requirements(ROOT / "tests" / "requirements.txt")]:
        (pinned,) = locked[need.name.lower()].specifier
        assert pinned.operator == "=="
        assert need.specifier.contains(pinned.version), need
        assert need.specifier.contains(version(need.name)), need


def test_nothing_is_locked_to_an_address_or_a_path() -> None:
    assert not re.search(r"@|://|/", (ROOT / "requirements.lock").read_text())
