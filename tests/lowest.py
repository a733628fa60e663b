"""The lower bounds of requirements.txt as constraints: python tests/lowest.py > constraints.txt"""

from __future__ import annotations

import re
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"


def lowest(text: str) -> list[str]:
    """`name==bound` of each line `name>=bound`. Raises ValueError for a line without a lower bound."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [re.fullmatch(r"([\w.-]+)>=([\w.]+)", line) for line in lines]
    if None in found:
        raise ValueError(f"No lower bound: {lines[found.index(None)]}")
    return [f"{match[1]}=={match[2]}" for match in found if match]


if __name__ == "__main__":
    print("\n".join(lowest(REQUIREMENTS.read_text(encoding="utf-8"))))
