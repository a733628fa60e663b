"""The model card of a fine-tune: what it takes from the base's card, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from demo import card
from demo.checkpoint import Checkpoint
from demo.settings import EMBEDDED_CHECKPOINT

FIGURES = {"map": 0.5, "micro_f1": 0.25, "macro_f1": None}
METRICS = {
    "images": 20,
    "split": "valid",
    "known_cells": 40,
    "trained_images": 80,
    "threshold": 0.4,
    "verdict": "better",
    "metrics": FIGURES,
    "old_model": dict.fromkeys(FIGURES),
    "predict_nothing": FIGURES,
}


@pytest.fixture
def write(make_checkpoint: Callable[..., Checkpoint]) -> Callable[..., str]:
    """A function that gives the card of a fine-tune from a base with that card and identity."""
    checkpoint = make_checkpoint()
    new = replace(checkpoint, identity="local:first@aaaaaaaaaaaa", metrics=METRICS)

    def write(base_card: str = "", identity: str = "local:base@bbbbbbbbbbbb", ref: str = "/home/jane/base") -> str:
        return card.text(new, replace(checkpoint, card=base_card, identity=identity, ref=ref))

    return write


def test_the_licence_is_the_one_that_the_bases_card_states(write):
    stated = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\ndatasets: [x]\n---\n# Base\n"
    front = card.front_matter(write(stated))
    assert [front[key] for key in ("license", "license_name", "license_link")] == ["other", "mine", "LICENSE"]
    assert "datasets" not in front


@pytest.mark.parametrize(
    "base_card",
    [
        "",
        "# A card without metadata",
        "---\nlicense: no\n---\n",
        "---\nlicense: {a: b}\n---\n",
        "---\n- a\n---\n",
        "---\n: : [\n---\n",
        "---\nlicense: 2026-13-45\n---\n",
        "---\nlicense: mit",
        "text\n---\nlicense: mit\n---\n",
    ],
)
def test_no_licence_is_invented_and_no_card_of_a_base_stops_a_fine_tune(write, base_card):
    front = card.front_matter(write(base_card))
    assert set(front) == {"library_name", "pipeline_tag", "tags"}


def test_a_base_from_the_hub_is_the_base_model_and_a_folder_passes_on_its_own(write):
    stated = "---\nbase_model: timm/some-vit\n---\n"
    assert card.front_matter(write(stated))["base_model"] == "timm/some-vit"
    assert card.front_matter(write(stated, f"owner/name@{'c' * 40}"))["base_model"] == "owner/name"


def test_the_base_is_named_without_its_path(write):
    text = write()
    assert "from `base@bbbbbbbbbbbb`" in text
    assert "jane" not in text
    assert "from `assets/checkpoint`" in write(ref=str(EMBEDDED_CHECKPOINT))
    assert str(EMBEDDED_CHECKPOINT) not in write(ref=str(EMBEDDED_CHECKPOINT))


def test_the_hub_finds_what_it_needs_in_the_front_matter(write):
    front = card.front_matter(write())
    assert (front["library_name"], front["pipeline_tag"]) == ("timm", "image-classification")
    assert front["tags"] == ["multi-label", "tagloop"]
    assert write().startswith("---\nlibrary_name: timm\n")


def test_figures_that_are_undefined_are_dashes(write):
    assert "| this model | 0.5000 | 0.2500 | – | – | – | – |" in write()
    assert "| the model it started from | – | – | – | – | – | – |" in write()
