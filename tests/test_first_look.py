"""What is taken from a stranger's model card: plain words, and few of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.checkpoint import load_checkpoint
from demo.ui.first_look import MAX_CHARACTERS, arriving, card_facts, first_look

CARD = """---
license: apache-2.0
tags:
- image-classification
---

# A model

[![badge](https://x/b.svg)](https://x) A **ViT** for `1,000` labels, see [the paper](https://x/p_(v1).pdf "title") and
snake_case_names.

<!-- a comment
with words in it -->

- a list of things that is not prose

| a | table |
|---|---|

```python
print("some code that nobody should see")
```

It was trained on <b>many</b> photos of things.

## Limits

This is the next chapter and is left out.
"""


def test_the_first_paragraphs_come_out_as_plain_text() -> None:
    assert card_facts(CARD) == {
        "licence": "apache-2.0",
        "text": [
            "A ViT for 1,000 labels, see the paper and snake_case_names.",
            "It was trained on many photos of things.",
        ],
    }


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: my own\n---\n", "other"),
        ("---\nlicense:\n- mit\n---\n", ""),
        ("license: mit in the text", ""),
        ("---\nlicense: mit", ""),
        ("", ""),
    ],
)
def test_the_licence_is_the_front_matters(card: str, licence: str) -> None:
    assert card_facts(card)["licence"] == licence


@pytest.mark.parametrize(
    "card",
    [
        "<script>bad words in here</script>",
        "<style>bad words in here",
        "```\nbad words in here",
        "# a b c d",
    ],
)
def test_what_is_no_prose_is_left_out(card: str) -> None:
    assert card_facts(card)["text"] == []


@pytest.mark.parametrize(
    "card", ["word " * 9_000, "[" * 50_000, "<a " * 50_000, "![a](b " * 20_000, "\n\nsome few words here" * 5_000]
)
def test_a_long_card_is_cut(card: str) -> None:
    assert sum(map(len, card_facts(card)["text"])) <= MAX_CHARACTERS + 100


def test_what_is_on_its_way_has_the_card_only(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert arriving(None) is arriving(tmp_path) is None
    (tmp_path / "README.md").write_text(CARD)
    assert arriving(tmp_path)["rows"] == [["Licence", "apache-2.0"]]


def test_the_embedded_model_introduces_itself() -> None:
    look = first_look(load_checkpoint())
    rows = dict(look["rows"])
    assert rows["Licence"] == "apache-2.0"
    assert rows["Labels"] == "61"
    assert rows["Threshold"].startswith("0.24 recommended")
    assert look["text"][0].startswith("A ViT-Tiny")
