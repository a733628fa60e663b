"""How many rows an address saves within an hour, where strangers come.

Stops a script that runs wild and a page that nobody watches; not somebody who has many addresses, or who makes up the
header that names theirs to a proxy. People behind one address share its number.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import accumulate

from demo.messages import Message
from demo.settings import MAX_COUNTED_ADDRESSES

HOUR = 3600.0


class Hourly:
    """Any number of threads may ask. most: rows an hour; None for any number. clock: gives seconds."""

    def __init__(self, most: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.most, self._clock = most, clock
        self._lock = threading.Lock()
        self._saves: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    def take(self, address: str, rows: int = 1) -> Message | None:
        """Count rows that are about to be saved; why they may not be, where there would be too many.

        The first rows of an hour may be any number: they come from one click and cannot be saved in parts.
        """
        if self.most is None:
            return None
        with self._lock:
            now, saves = self._clock(), self._saves.setdefault(address, deque())
            self._saves.move_to_end(address)
            while saves and saves[0][0] <= now - HOUR:
                saves.popleft()
            over = sum(count for _, count in saves) + rows - self.most
            if not saves or over <= 0:
                saves.append((now, rows))
                while len(self._saves) > MAX_COUNTED_ADDRESSES:
                    self._saves.popitem(last=False)
                return None
            return _refusal(self.most, saves, over, now)

    def give_back(self, address: str, rows: int = 1) -> None:
        """Rows that were counted were not saved after all."""
        with self._lock:
            saves = self._saves.get(address)
            while saves and rows > 0:
                when, count = saves.pop()
                if count > rows:
                    saves.append((when, count - rows))
                rows -= count


def _refusal(most: int, saves: deque[tuple[float, int]], over: int, now: float) -> Message:
    """When so many of the saves are an hour old that the rows that are too many fit in."""
    gone = zip((when for when, _ in saves), accumulate(count for _, count in saves), strict=True)
    when = next((when for when, count in gone if count >= over), saves[-1][0])
    minutes = max(1, math.ceil((when + HOUR - now) / 60))
    wait = Message.many(minutes, "in {count} minute", "in {count} minutes")
    return Message(
        "One visitor may save {most} corrections an hour here. What you decided stays; save it {wait}.",
        most=most,
        wait=wait,
    )
