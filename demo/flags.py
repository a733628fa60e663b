"""Reading the flags of a command, from the command line and the environment.

`demo.flag_table` holds them all, so that each flag also comes from the environment as `TAGLOOP_<FLAG>` and a `TAGLOOP_`
name that no command has is an error and not a silent typo. A flag on the command line wins over the environment, the
environment over the default. Tokens and the Hub's own variables (`HF_TOKEN`, `HF_ENDPOINT`, …) are not read here:
huggingface_hub reads them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from demo.errors import BadInput
from demo.flag_table import COMMANDS, ONE_OF, PREFIX, Flag

__all__ = ["COMMANDS", "Flag", "parse_flags"]


class _Parser(argparse.ArgumentParser):
    """argparse that raises our error, with the usage, and never exits on bad input."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadInput(f"{self.prog}: {message}.", next_step=f"See {self.prog} --help.")


def parse_flags(
    command: str,
    arguments: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    description: str = "",
    positionals: Sequence[tuple[str, str]] = (),
) -> argparse.Namespace:
    """Read one command's flags from `arguments` (default `sys.argv[1:]`) and `TAGLOOP_` variables.

    positionals: name and help of each argument without dashes; one whose name ends in … takes one or more values.
    Raises BadInput for an unknown flag or variable and for a value that does not convert.
    """
    environment = os.environ if environment is None else environment
    known = {flag.variable for flags in COMMANDS.values() for flag in flags}
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            raise BadInput(
                f"The environment variable {name} belongs to no flag.",
                next_step=f"Unset it, or use one of {', '.join(sorted(known))}.",
            )
    program = "python app.py" if command == "app" else f"python -m demo.{command}"
    parser = _Parser(prog=program, description=description, allow_abbrev=False)
    for name, meaning in positionals:
        shown = name.rstrip("…")
        parser.add_argument(shown.lower(), metavar=shown, nargs="+" if name.endswith("…") else None, help=meaning)
    flags = COMMANDS[command]
    for flag in flags:
        text = f"{flag.help} [{flag.variable}]"
        if flag.is_switch:
            parser.add_argument(f"--{flag.name}", action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            shown = "" if flag.default is None else f" (default: {flag.default})"
            metavar = flag.metavar or ("|".join(flag.choices) if flag.choices else None)
            parser.add_argument(f"--{flag.name}", default=None, metavar=metavar, help=text.replace("%", "%%") + shown)
    parsed = parser.parse_args(sys.argv[1:] if arguments is None else list(arguments))
    one_of = ONE_OF.get(command, ())
    is_chosen = any(getattr(parsed, name) is not None for name in one_of)
    for flag in flags:
        key = flag.name.replace("-", "_")
        given = getattr(parsed, key)
        source = f"--{flag.name}"
        if given is None and environment.get(flag.variable, "") != "" and not (is_chosen and flag.name in one_of):
            given, source = environment[flag.variable], flag.variable
        setattr(parsed, key, _value(flag, given, source, parser))
    if one_of and sum(getattr(parsed, name) is not None for name in one_of) != 1:
        parser.error(f"exactly one of {' and '.join(f'--{name}' for name in one_of)} is needed")
    return parsed


def _value(flag: Flag, given: object, source: str, parser: _Parser) -> object:
    """The value of one flag from its text, or its default."""
    if given is None:
        if flag.required:
            parser.error(f"--{flag.name} is required")
        return flag.default
    if flag.is_switch:
        if isinstance(given, bool):
            return given
        if str(given).lower() in ("1", "true", "yes", "on"):
            return True
        if str(given).lower() in ("0", "false", "no", "off"):
            return False
        raise BadInput(f"{source} is {given!r}.", "It is a switch.", "Use 1 or 0.")
    if flag.choices and given not in flag.choices:
        raise BadInput(f"{source} is {given!r}.", next_step=f"Use one of {', '.join(flag.choices)}.")
    try:
        return flag.convert(str(given))
    except ValueError as error:
        raise BadInput(f"{source} is {given!r}.", f"{error}.".capitalize(), f"See {parser.prog} --help.") from None
