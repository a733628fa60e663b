"""Text for people that knows what it was made of, so that the page can say it in another language."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce
from typing import Any

_NAMED = re.compile(r"\{(\w+)\}")


class Message(str):
    """An English text: `Message("{name} was saved.", name="a.jpg") == "a.jpg was saved."`.

    template: the text with {names} in braces. values: by name, whole numbers as such; a value may be a Message itself.
    """

    template: str
    values: dict[str, Any]

    def __new__(cls, template: str, /, **values: Any) -> Message:
        return cls._made(template, template, values)

    @classmethod
    def many(cls, count: int, one: str, several: str, /, **values: Any) -> Message:
        """`one` of something or `several`, which speaks for both where a language has one form; {count} is known."""
        return cls._made(one if count == 1 else several, several, {"count": count, **values})

    @classmethod
    def _made(cls, english: str, template: str, values: dict[str, Any]) -> Message:
        made = super().__new__(cls, _NAMED.sub(lambda name: _shown(values.get(name[1], name[0])), english))
        made.template, made.values = template, values
        return made


def joined(parts: Iterable[str], between: str = "{first} {second}") -> str:
    """The parts that are not empty as one text: sentences, or with `between` a list."""
    return reduce(
        lambda first, second: Message(between, first=first, second=second), [part for part in parts if part] or [""]
    )


def for_page(value: Any) -> Any:
    """The same value, its Messages as `said` (English), `template` and `values`, for `ui/words.js`."""
    if isinstance(value, Message):
        return {"said": str(value), "template": value.template, "values": for_page(value.values)}
    if isinstance(value, dict):
        return {key: for_page(one) for key, one in value.items()}
    return [for_page(one) for one in value] if isinstance(value, list | tuple) else value


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
