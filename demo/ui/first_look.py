"""A first look at a model for a person who is about to use it: a few facts, and the first words of its card.

A model card is a stranger's text: what comes out of here is plain text for the page to show as text.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from demo.checkpoint import Checkpoint
from demo.layouts import CARD
from demo.messages import Message, joined

MAX_CHARACTERS, MAX_PARAGRAPHS = 700, 3
_FRONT_MATTER = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LICENCE = re.compile(r"^license(?:_name)?:[ \t]*([^\s#][^\n#]*)", re.MULTILINE)
_BLOCKS = re.compile(
    r"```.*?(?:```|\Z)|<!--.*?(?:-->|\Z)|<(style|script|table)\b.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE
)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*(?:\([^()]*\)[^()\s]*)?(?: [^()]*)?\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,500}>")
_HEADING = re.compile(r"\s*#+\s|[^\n]+\n(?:=+|-+)\s*$")
_LIST = re.compile(r"\s*(?:[-*+]|\d+[.)])\s")
_NO_PROSE = re.compile(r"^\s*(?:[#|>]|[-*_=]{3,}\s*$|\[[^\]]*\]:)")


def card_facts(card: str) -> dict[str, Any]:
    """`licence` as the front matter names it, and `text`, the first paragraphs; both empty where there are none."""
    front = _FRONT_MATTER.match(card)
    licence = _LICENCE.search(front[1]) if front else None
    return {
        "licence": licence[1].strip().strip("\"'")[:100] if licence else "",
        "text": _paragraphs(card[front.end() :] if front else card),
    }


def arriving(folder: Path | None) -> dict[str, Any] | None:
    """What can be told of a checkpoint whose weights are still on their way; None before its card is there."""
    try:
        card = (folder / CARD).read_text(encoding="utf-8", errors="replace") if folder else ""
    except OSError:
        return None
    facts = card_facts(card)
    rows = [[Message("Licence"), facts["licence"]]] if facts["licence"] else []
    return {"rows": rows, "text": facts["text"]} if card else None


def first_look(checkpoint: Checkpoint) -> dict[str, Any]:
    """`rows`: pairs of a name and a value. `text`: paragraphs."""
    facts = card_facts(checkpoint.card)
    labels = checkpoint.labels
    weights = sum(parameter.numel() for parameter in checkpoint.model.parameters())
    tuned = sum(threshold is not None for threshold in labels.thresholds)
    groups = Counter(category for category in labels.categories if category)
    name, _, revision = checkpoint.identity.partition("@")
    count, is_single = len(labels), checkpoint.single_label
    architecture = checkpoint.config.get("architecture", "ViT")
    recommended = Message("{threshold} recommended", threshold=f"{checkpoint.threshold:.3g}")
    of_its_own = Message("{count} tuned per label", count=tuned) if tuned else ""
    rows = [
        [Message("Labels"), Message("{count}, one to an image", count=count) if is_single else f"{count:,}"],
        [Message("Categories"), ", ".join(f"{group} {number:,}" for group, number in groups.most_common(6))],
        [Message("Threshold"), joined([recommended, of_its_own], "{first}, {second}")],
        [Message("Licence"), facts["licence"] or Message("not stated")],
        [Message("Model"), joined([architecture, _count(weights)], "{first}, {second}")],
        [Message("Input"), " × ".join(map(str, checkpoint.data["input_size"][1:])) + " px"],
        [Message("Weights") if name.startswith("local:") else Message("Commit"), revision],
    ]
    return {"rows": [row for row in rows if row[1]], "text": facts["text"]}


def _paragraphs(body: str) -> list[str]:
    """The first prose of a Markdown text: no headings, lists, tables, code, pictures or markup."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", _BLOCKS.sub("", body[:20_000])):
        if found and _HEADING.match(block):
            break  # the next chapter
        if _LIST.match(block):
            continue
        prose = " ".join(line for line in block.splitlines() if not _NO_PROSE.match(line))
        for pattern in (_LINK, _LINK):  # a picture inside a link is a link inside a link
            prose = pattern.sub(lambda link: "" if link[0].startswith("!") else link[1], prose)
        prose = re.sub(r"[*`]+|\b_+|_+\b", "", _TAG.sub("", prose))
        prose = " ".join(prose.split())
        if len(re.findall(r"\w+", prose)) >= 4:
            found.append(prose)
        if len(found) == MAX_PARAGRAPHS or sum(map(len, found)) > MAX_CHARACTERS:
            break
    if sum(map(len, found)) > MAX_CHARACTERS:
        spare = MAX_CHARACTERS - sum(map(len, found[:-1]))
        found[-1] = found[-1][: max(spare, 80)].rsplit(" ", 1)[0] + " …"
    return found


def _count(weights: int) -> Message:
    if weights < 1e6:
        return Message("{count} weights", count=weights)
    return Message("{count} million weights", count=f"{weights / 1e6:.1f}")
