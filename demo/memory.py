"""What the C library does with memory that was used for a while. Of glibc alone; elsewhere nothing happens."""

from __future__ import annotations

import ctypes
import sys

_M_ARENA_MAX = -8  # malloc.h


def few_arenas(most: int = 2) -> None:
    """Let all threads take their memory from so few places, before there are threads.

    glibc gives each thread one of its own, up to eight a core, and in each stays free what was once used for the
    longest text that was built there: a corrections CSV of some megabytes, as many times.
    https://www.gnu.org/software/libc/manual/html_node/Malloc-Tunable-Parameters.html
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, most)


def give_back() -> None:
    """Return what is free to the system: freed in pieces between others' it would stay with the process."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> object:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
