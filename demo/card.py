"""The model card of a fine-tuned checkpoint: what it is, what it was trained on, how it was measured."""

from __future__ import annotations

import argparse
from typing import Any

from demo.checkpoint import Checkpoint

_ROWS = (("metrics", "this model"), ("old_model", "the model it started from"), ("predict_nothing", "predict nothing"))
_FIGURES = ("map", "micro_f1", "macro_f1", "micro_precision", "micro_recall", "hamming_loss")


def text(checkpoint: Checkpoint, metrics: dict[str, Any], flags: argparse.Namespace) -> str:
    """Markdown with a Hub front matter."""
    names = checkpoint.labels.names
    shown = ", ".join(f"`{name}`" for name in names[:100]) + (" …" if len(names) > 100 else "")
    return f"""---
library_name: timm
pipeline_tag: image-classification
tags:
- multi-label
- tagloop
---

# {checkpoint.identity.removeprefix("local:")}

A multi-label image tagger: {checkpoint.config["architecture"]} at {checkpoint.data["input_size"][-1]} px, one sigmoid
per label, fine-tuned with TagLoop on {metrics["trained_images"]} images from `{flags.model or "assets/checkpoint"}`.

## Figures
On {metrics["images"]} {metrics["split"]} images, {metrics["known_cells"]} known cells, at the recommended threshold
{metrics["threshold"]:.2f}. Verdict beside the model it started from: **{metrics["verdict"]}**.

{figures(metrics)}

## Labels
{len(names)}: {shown}
"""


def figures(metrics: dict[str, Any]) -> str:
    """The Markdown table of a `metrics.json`: this model, the old one, and predicting nothing."""
    lines = ["| | " + " | ".join(_FIGURES) + " |", "|---" * (len(_FIGURES) + 1) + "|"]
    for key, title in _ROWS:
        values = (metrics[key].get(name) for name in _FIGURES)
        lines.append(f"| {title} | " + " | ".join("–" if value is None else f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)
