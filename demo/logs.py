"""Events of a running app as lines of JSON on stderr: when, how grave, what, and plain numbers.

For who watches a server that they do not sit at, so it is on where others reach the page and off on one's own machine,
where the page says it all and a terminal has better uses (`--log` and `--no-log` overrule that). No line holds an
image, a file name, a label, a token, an address or a person's name: besides numbers there are only words of this
project's own and the names of exception types.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

WORD = re.compile(r"[A-Za-z_]{1,60}")

_lock = threading.Lock()
_stream: TextIO | None = None


def start(stream: TextIO | None = None) -> None:
    """Write events from now on, to stderr unless said otherwise."""
    global _stream
    _stream = stream or sys.stderr


def stop() -> None:
    """Write no more."""
    global _stream
    _stream = None


def event(name: str, level: str = "info", **values: str | float | None) -> None:
    """One line, if anybody wants it. level: info, warning or error. A text that is no single word is left out."""
    stream = _stream
    if stream is None:
        return
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": name}
    line |= {key: _plain(value) for key, value in values.items()}
    with _lock, suppress(OSError, ValueError):  # nobody reads it any more
        stream.write(json.dumps(line) + "\n")
        stream.flush()


def _plain(value: str | float | None) -> str | float | None:
    if isinstance(value, str):
        return value if WORD.fullmatch(value) else None
    return round(value, 4) if isinstance(value, float) else value
