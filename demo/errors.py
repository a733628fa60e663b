"""Every error that a person can cause or meet, and how it is worded.

A message has three parts: what happened, why, and the next step. The command line prints it to stderr and
ends with `exit_code`; the page shows it where the person is looking. Whatever is not a `DemoError` is a bug
and keeps its traceback.

- DemoError
  - BadInput            a flag, an environment variable, a folder
    - TableError        a CSV or list file, with the line where one is to blame
    - TargetsError      targets or scores that no loss or metric may take
  - ImageRejected       bytes that are not a picture we decode
  - CheckpointError     a checkpoint that cannot be loaded
    - HubError          the Hub did not give what was asked for
  - CorrectionsError    the corrections could not be read or written
  - Interrupted         stopped by a person; the work can be resumed
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

EXIT_DONE, EXIT_BUG, EXIT_BAD_INPUT, EXIT_SKIPPED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


class DemoError(Exception):
    """What happened, why, and what to do next, each a sentence or empty."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, what: str, why: str = "", next_step: str = "") -> None:
        self.what, self.why, self.next_step = what, why, next_step
        super().__init__(" ".join(part for part in (what, why, next_step) if part))


class BadInput(DemoError):
    """A flag, an environment variable or a folder that cannot be used."""


class TableError(BadInput):
    """A CSV or list file that cannot be used; the message names the line where one is to blame."""


class TargetsError(BadInput):
    """Targets, logits or scores of the wrong kind, range or shape."""


class ImageRejected(DemoError):
    """Bytes that are not an image of a kind and size that is decoded here."""


class CheckpointError(DemoError):
    """A folder or repo that is not a checkpoint this project can load."""


class HubError(CheckpointError):
    """The Hub, or the way to it, did not give what was asked for."""


class CorrectionsError(DemoError):
    """The corrections could not be read or written; what was saved before is untouched."""


class Interrupted(DemoError):
    """Stopped by a person or by SIGTERM; running it again with --resume goes on."""

    exit_code = EXIT_INTERRUPTED


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Turn the errors of a command's `main` into its message on stderr and its exit code."""

    @functools.wraps(main)
    def run(*args: object, **kwargs: object) -> int:
        try:
            return main(*args, **kwargs)
        except DemoError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    return run
