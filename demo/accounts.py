"""Who may log in, a file with a line NAME:PASSWORD for each person, and who may do what once they did.

Nothing of a password is ever shown or logged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from demo.errors import BadInput
from demo.messages import Message

NAME = re.compile(r"\w[\w.@ -]{0,98}\w|\w")
"""A name is written to the corrections as the annotator."""


@dataclass(frozen=True)
class Rights:
    """What people may do, by the name that they logged in with; '' for who did not.

    savers, retrainers: the only ones who may save corrections, and fine-tune and choose the server's own model; None
    for everybody. Each gives why not, or None for who may.
    """

    savers: tuple[str, ...] | None = None
    retrainers: tuple[str, ...] | None = None

    def kept_from_saving(self, name: str) -> Message | None:
        if self.savers is None or name in self.savers:
            return None
        if name:
            return Message("Only some people may save here, and {name} is not among them.", name=name)
        return Message("Only some people may save here. Log in and save again: what you decided stays.")

    def kept_from_retraining(self, name: str) -> Message | None:
        if self.retrainers is None or name in self.retrainers:
            return None
        return Message("Only some people may fine-tune here, and choose a model for others.")

    @staticmethod
    def kept_from_deleting(row_of: str, own: str) -> Message | None:
        """row_of: whose row it is. own: the annotator that the person is, logged in or not; '' on one's own machine."""
        if not own or row_of == own:
            return None
        return Message("This row is not yours: everybody deletes their own.")


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
