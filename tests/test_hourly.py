"""The number of rows that an address saves within an hour."""

from __future__ import annotations

import pytest

from demo import hourly as module
from demo.hourly import Hourly


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_more_than_the_limit_is_refused_until_the_first_ones_are_an_hour_old(clock: Clock) -> None:
    hourly = Hourly(3, clock)
    for minute in (0, 10, 20):
        clock.now = 1000 + 60 * minute
        assert hourly.take("a") is None
    refusal = hourly.take("a")
    assert refusal == (
        "One visitor may save 3 corrections an hour here. What you decided stays; save it in 40 minutes."
    )
    assert hourly.take("b") is None, "another visitor has a number of their own"
    clock.now = 1000 + 3599
    assert "in 1 minute." in hourly.take("a")
    clock.now = 1000 + 3600
    assert hourly.take("a") is None
    assert "in 10 minutes" in hourly.take("a")


def test_a_refused_save_counts_nothing_and_neither_does_one_that_failed(clock: Clock) -> None:
    hourly = Hourly(2, clock)
    assert hourly.take("a", 2) is None
    assert hourly.take("a") is not None
    hourly.give_back("a", 1)
    assert hourly.take("a") is None
    assert hourly.take("a") is not None
    hourly.give_back("a", 99)
    hourly.give_back("nobody", 1)
    assert hourly.take("a", 2) is None


def test_rows_count_and_one_click_that_is_too_large_goes_through_alone(clock: Clock) -> None:
    hourly = Hourly(10, clock)
    assert hourly.take("a", 25) is None
    assert "in 60 minutes" in hourly.take("a", 1)
    assert hourly.take("b", 9) is None
    assert hourly.take("b", 2) is not None
    assert hourly.take("b", 1) is None


def test_where_there_is_no_limit_nothing_is_counted(clock: Clock) -> None:
    hourly = Hourly(None, clock)
    assert all(hourly.take("a", 1000) is None for _ in range(10))
    assert not hourly._saves


def test_the_addresses_that_are_counted_have_a_limit_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_COUNTED_ADDRESSES", 3)
    hourly = Hourly(1, clock)
    for address in "abcd":
        assert hourly.take(address) is None
    assert list(hourly._saves) == ["b", "c", "d"]
