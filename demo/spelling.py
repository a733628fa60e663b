"""Label names in formats that put several of them into one text: what would be misread is percent-encoded.

fastai separates labels by spaces, `.txt` files beside images by commas. Both ways back are exact, but that fastai's
`red_sofa` may have been a `red sofa`: `demo.tables.respelled` settles that where the labels are known.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

# What a reader might take for an encoded character, and what ends lines or is invisible.
_ALWAYS = r"%(?=[0-9A-Fa-f]{2})|[^\S ]|[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]"
_IN_WORDS = re.compile(rf"{_ALWAYS}|^[=+\-@]")
_IN_WORDS_WITHOUT_SPACES = re.compile(rf"{_ALWAYS}|^[=+\-@]| ")
_IN_COMMAS = re.compile(rf"{_ALWAYS}|,|^ | $")
_ENCODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# fastai reads with pandas' defaults, to which these cells are no text at all.
_MISSING = {"#N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL"}
_MISSING |= {"NaN", "None", "n/a", "nan", "null"}


def words(names: Iterable[str]) -> dict[str, str]:
    """Each label as one word: spaces become `_`, and where that would make two labels one, `%20`."""
    plain = {name: _word(name) for name in names}
    counts = Counter(plain.values())
    return {
        name: word if counts[word] == 1 or " " not in name else _IN_WORDS_WITHOUT_SPACES.sub(_encode, name)
        for name, word in plain.items()
    }


def from_words(text: str) -> tuple[str, ...]:
    """The labels of a cell of words, each once."""
    return tuple(dict.fromkeys(map(_decoded, text.split())))


def commas(names: Sequence[str]) -> str:
    """Labels separated by commas."""
    return ", ".join(_IN_COMMAS.sub(_encode, name) for name in names)


def from_commas(text: str) -> tuple[str, ...]:
    """The labels of a text that separates them by commas or line ends, each once."""
    parts = (part.strip() for part in re.split(r"[,\r\n]", text))
    return tuple(dict.fromkeys(_decoded(part) for part in parts if part))


def _word(name: str) -> str:
    word = _IN_WORDS.sub(_encode, name).replace(" ", "_")
    return f"%{ord(word[0]):02X}{word[1:]}" if word in _MISSING else word


def _encode(match: re.Match) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode())


def _decoded(text: str) -> str:
    return _ENCODED.sub(_decode, text)


def _decode(match: re.Match) -> str:
    try:
        return bytes.fromhex(match[0].replace("%", "")).decode()
    except UnicodeDecodeError:
        return match[0]  # not encoded by anybody
