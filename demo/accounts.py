"""Who may log in: a file with a line NAME:PASSWORD for each person. Nothing of a password is ever shown or logged."""

from __future__ import annotations

import re
from pathlib import Path

from demo.errors import BadInput

NAME = re.compile(r"\w[\w.@ -]{0,98}\w|\w")
"""A name is written to the corrections as the annotator."""


def read_accounts(path: Path) -> tuple[tuple[str, str], ...]:
    """Names and passwords; empty lines and those that start with # are left out. A password may hold colons.

    Raises BadInput, naming the line and nothing of what is in it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = "It is not UTF-8 text." if isinstance(error, UnicodeDecodeError) else f"{error.strerror}."
        raise BadInput(f"--auth {path} cannot be read.", why, "Name a file of NAME:PASSWORD lines.") from None
    accounts: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        problem = None
        if not colon or not NAME.fullmatch(name):
            problem = "A name is letters, digits, spaces and _ . @ -, then a colon."
        elif not password or password != password.strip():
            problem = "After the colon a password is needed, without spaces around it."
        elif name in accounts:
            problem = "That name has a line already."
        if problem:
            raise BadInput(f"Line {number} of {path} is no account.", problem, "Write NAME:PASSWORD.")
        accounts[name] = password
    if not accounts:
        raise BadInput(f"{path} names nobody.", "It has no line NAME:PASSWORD.", "Add one for each person.")
    return tuple(accounts.items())
