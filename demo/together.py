"""Turns at a model that many threads want at once; what came while it was busy is computed together.

Nobody waits for company: on an idle model work begins at once, alone, and whatever has queued up by the time it is
done makes the next batch. There is no thread of its own that could die: one of those who wait computes for all of
them, and hands the model on before it leaves. Work that nobody looks at stands behind and gives way, for so long.
"""

from __future__ import annotations

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
    """One who waits. item: what to compute of it together with others'; None for a turn alone."""

    def __init__(self, item: Any, is_behind: bool = False) -> None:
        self.item, self.is_behind = item, is_behind
        self.called = threading.Event()  # it is answered, or the model is its own now
        self.passed_by = 0
        self.is_answered = False
        self.result: Any = None
        self.error: BaseException | None = None


class Turns(Generic[Item, Result]):
    """Turns at one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the fields below, never held while anything is computed
        self._is_busy = False
        self._waiting: deque[_Ticket] = deque()

    def together(self, item: Item, compute: Callable[[Sequence[Item]], Sequence[Result]]) -> Result:
        """What `compute` makes of an item, in a batch with those that wait as well.

        compute: results of items, one each and in their order; all who come give the same. Raises what it raises for
        this item: where a batch fails, each of it is computed alone.
        """
        ticket = _Ticket(item)
        self._wait(ticket)
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
        ticket = _Ticket(None, is_behind)
        self._wait(ticket)
        try:
            yield
        finally:
            self._hand_on()

    def _wait(self, ticket: _Ticket) -> None:
        with self._lock:
            if not self._is_busy:
                self._is_busy = True
                return
            self._waiting.append(ticket)
        try:
            ticket.called.wait()
        except BaseException:  # Ctrl+C: the others must not wait for one that has gone
            with self._lock:
                is_waiting = ticket in self._waiting
                if is_waiting:
                    self._waiting.remove(ticket)
            if not is_waiting and not ticket.is_answered and ticket.called.is_set():
                self._hand_on()
            raise

    def _answer(self, first: _Ticket, compute: Callable) -> None:
        """Compute for the one whose turn it is, and for those that can go with it."""
        with self._lock:
            company = [ticket for ticket in self._waiting if ticket.item is not None][: MOST_TOGETHER - 1]
            for ticket in company:
                self._waiting.remove(ticket)
        batch = [first, *company]
        try:
            self._fill(batch, compute)
        finally:
            self._hand_on()
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

    def _hand_on(self) -> None:
        """The model to whom it is due, or to nobody."""
        with self._lock:
            if not self._waiting:
                self._is_busy = False
                return
            following = self._next()
            self._waiting.remove(following)
            for ticket in self._waiting:
                ticket.passed_by += ticket.is_behind
            following.called.set()

    def _next(self) -> _Ticket:
        for ticket in self._waiting:
            if not ticket.is_behind or ticket.passed_by >= PASSED_BY:
                return ticket
        return self._waiting[0]
