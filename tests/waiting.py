"""Waiting in tests for what another thread or process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Look until it is so; fails after so many seconds."""
    pause, deadline = threading.Event(), time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        pause.wait(0.005)
