"""Turns at a model that many threads want at once; what came while it was busy is computed together.

Nobody waits for company: where there is room work begins at once, alone, and whatever has queued up by the time it is
done makes the next batch. There is no thread of its own that could die: one of those who wait computes for all of
them, and hands its seat on before it leaves. Work that nobody looks at stands behind and gives way, for so long.

Where several batches are computed at the same time, as on the CPU of a server, each has a seat, and work alone has all.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_TOGETHER = 32
"""Of a batch: memory grows with it, and beyond that hardly anything is gained."""

PASSED_BY = 8
"""Turns that whoever stands behind lets by at most, so that work in the background comes to an end on a busy server."""


class _Ticket:
    """One who waits. item: what to compute of it together with others'; None for a turn alone. seats: it takes."""

    def __init__(self, item: Any, seats: int, is_behind: bool = False) -> None:
        self.item, self.seats, self.is_behind = item, seats, is_behind
        self.called = threading.Event()  # it is answered, or has its seats now
        self.passed_by = 0
        self.is_answered = False
        self.result: Any = None
        self.error: BaseException | None = None


class Turns(Generic[Item, Result]):
    """Turns at one model. seats: batches that may be computed at the same time."""

    def __init__(self, seats: int = 1) -> None:
        self.seats = seats
        self._lock = threading.Lock()  # of the fields below, never held while anything is computed
        self._waiting: deque[_Ticket] = deque()
        self._having: set[_Ticket] = set()  # a turn

    @property
    def sharers(self) -> int:
        """How many have a turn right now, and so share the cores."""
        return len(self._having)

    def together(self, item: Item, compute: Callable[[Sequence[Item]], Sequence[Result]]) -> Result:
        """What `compute` makes of an item, in a batch with those that wait as well.

        compute: results of items, one each and in their order; all who come give the same. Raises what it raises for
        this item: where a batch fails, each of it is computed alone.
        """
        ticket = _Ticket(item, seats=1)
        with self._turn(ticket):
            if not ticket.is_answered:
                self._answer(ticket, compute)
        if ticket.error is not None:
            error, ticket.error = ticket.error, None
            try:
                raise error
            finally:
                del error  # its traceback holds this frame, and so the model: together they would stay
        return ticket.result

    @contextmanager
    def alone(self, is_behind: bool = False) -> Iterator[None]:
        """The model for the caller only. is_behind: work in the background, which gives way."""
        with self._turn(_Ticket(None, self.seats, is_behind)):
            yield

    @contextmanager
    def _turn(self, ticket: _Ticket) -> Iterator[None]:
        """Wait until it is a ticket's turn, or somebody has answered it."""
        try:
            with self._lock:
                self._waiting.append(ticket)
                self._call()
            ticket.called.wait()
            yield
        finally:
            self._leave(ticket)

    def _leave(self, ticket: _Ticket) -> None:
        """Whoever leaves, by Ctrl+C too and wherever they stood, holds up nobody."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            self._having.discard(ticket)
            self._call()

    def _answer(self, first: _Ticket, compute: Callable) -> None:
        """Compute for the one whose turn it is, and for those that can go with it."""
        with self._lock:
            company = [ticket for ticket in self._waiting if ticket.item is not None]
            company = company[: min(MOST_TOGETHER - 1, math.ceil(len(company) / self.seats))]
            for ticket in company:
                self._waiting.remove(ticket)
        batch = [first, *company]
        try:
            self._fill(batch, compute)
        finally:
            self._leave(first)  # before the others wake up: the next batch begins
            for ticket in batch:
                if not ticket.is_answered:
                    ticket.error = ticket.error or RuntimeError("The thread that computed this was ended.")
                    ticket.is_answered = True
                ticket.called.set()

    def _fill(self, batch: list[_Ticket], compute: Callable) -> None:
        has_failed = False
        try:
            for ticket, result in zip(batch, compute([ticket.item for ticket in batch]), strict=True):
                ticket.result = result
        except Exception as error:
            has_failed = True
            if len(batch) == 1:
                batch[0].error = error
        if has_failed and len(batch) > 1:  # only here, where the error holds no memory that may have been short
            for ticket in batch:
                ticket.result = None
                self._fill([ticket], compute)
        for ticket in batch:
            ticket.is_answered = True

    def _call(self) -> None:
        """Those whose turn it is and who find room, with the lock held. Who needs more room is not passed by."""
        while self._waiting:
            following = self._next()
            if following.seats + sum(ticket.seats for ticket in self._having) > self.seats:
                return
            self._waiting.remove(following)
            self._having.add(following)
            for ticket in self._waiting:
                ticket.passed_by += ticket.is_behind
            following.called.set()

    def _next(self) -> _Ticket:
        for ticket in self._waiting:
            if not ticket.is_behind or ticket.passed_by >= PASSED_BY:
                return ticket
        return self._waiting[0]
