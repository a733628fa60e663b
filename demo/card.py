"""The model card of a fine-tuned checkpoint: what it is, how to load it, how it was measured.

Its front matter is what the Hub shows and searches: the licence is the one that the base's own card states, and
left out where that states none. A card names models and figures, and no path of the machine it was made on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from demo.rows import shortened
from demo.settings import EMBEDDED_CHECKPOINT

if TYPE_CHECKING:
    from demo.checkpoint import Checkpoint

REPO = "OWNER/NAME"
"""Stands in a card for the Hub repo that it is not yet published to."""
LICENCE = ("license", "license_name", "license_link")
"""What a front matter says of the licence."""

_ROWS = (("metrics", "this model"), ("old_model", "the model it started from"), ("predict_nothing", "predict nothing"))
_FIGURES = ("map", "micro_f1", "macro_f1", "micro_precision", "micro_recall", "hamming_loss")
_FRONT_MATTER = re.compile(r"\s*---\s*\n(.*?)\n---\s*(\n|$)", re.DOTALL)


def text(checkpoint: Checkpoint, base: Checkpoint) -> str:
    """Markdown with a Hub front matter, of a checkpoint that was fine-tuned from `base`."""
    names, metrics = checkpoint.labels.names, checkpoint.metrics
    shown = ", ".join(map(_code, names[:100])) + (" …" if len(names) > 100 else "")
    return f"""---
{_front_matter_from(base)}
---

# {checkpoint.identity.removeprefix("local:")}

A multi-label image tagger: {checkpoint.config["architecture"]} at {checkpoint.data["input_size"][-1]} px, one sigmoid
per label, fine-tuned with TagLoop on {metrics["trained_images"]} images from `{_name(base)}`.

## Use
With [timm](https://github.com/huggingface/pytorch-image-models) alone:

```python
import timm
import torch
from PIL import Image

model = timm.create_model("hf-hub:{REPO}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
pixels = transform(Image.open("photo.jpg").convert("RGB")).unsqueeze(0)
with torch.inference_mode():
    scores = model(pixels).sigmoid()[0].tolist()
names = model.pretrained_cfg["label_names"]
print({{name: round(score, 3) for name, score in zip(names, scores) if score >= {metrics["threshold"]:.2f}}})
```

{_more_than_timm(checkpoint)}With TagLoop: `python app.py --model {REPO}`.

## Figures
On {metrics["images"]} {metrics["split"]} images, {metrics["known_cells"]} known cells, at the recommended threshold
{metrics["threshold"]:.2f}. Verdict beside the model it started from: **{metrics["verdict"]}**.
{metrics.get("summary", "")}

{figures(metrics)}

## Labels
{len(names)}: {shown}
"""


def _code(name: str) -> str:
    """A label as a code span, in which no part of it is markup; shortened, and on one line."""
    text = " ".join(shortened(name).splitlines())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if text.strip() and (text[0] in "` " or text[-1] in "` ") else ""  # one on each side is not shown
    return f"{fence}{pad}{text}{pad}{fence}"


def _more_than_timm(checkpoint: Checkpoint) -> str:
    """What timm alone does otherwise with this checkpoint; empty for most."""
    differs = [
        *["images are prepared as `preprocess` in config.json says"] * bool(checkpoint.preprocess.to_config()),
        *["its head reads two tokens, so timm alone does not build it"] * ("pool" in checkpoint.config),
    ]
    return f"Mind that {', and '.join(differs)}.\n\n" if differs else ""


def figures(metrics: dict[str, Any]) -> str:
    """The Markdown table of a `metrics.json`: this model, the old one, and predicting nothing."""
    lines = ["| | " + " | ".join(_FIGURES) + " |", "|---" * (len(_FIGURES) + 1) + "|"]
    for key, title in _ROWS:
        values = (metrics[key].get(name) for name in _FIGURES)
        lines.append(f"| {title} | " + " | ".join("–" if value is None else f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


def front_matter(card: str) -> dict[str, Any]:
    """The metadata at the top of a card; empty where there is none or it cannot be read."""
    found = _FRONT_MATTER.match(card)
    try:
        told = yaml.safe_load(found[1]) if found else None
    except (yaml.YAMLError, ValueError):  # ValueError: a date that is none
        told = None
    return told if isinstance(told, dict) else {}


def _front_matter_from(base: Checkpoint) -> str:
    """A Hub repo is the base model; a folder passes on what its own card says of it."""
    stated = front_matter(base.card)
    inherited = {key: stated[key] for key in LICENCE if isinstance(stated.get(key), str | list)}
    ancestor = stated.get("base_model") if base.identity.startswith("local:") else base.identity.partition("@")[0]
    told = {
        **inherited,
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        **({"base_model": ancestor} if isinstance(ancestor, str | list) else {}),
        "tags": ["multi-label", "tagloop"],
    }
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True).strip()


def _name(checkpoint: Checkpoint) -> str:
    if checkpoint.ref == str(EMBEDDED_CHECKPOINT):
        return "assets/checkpoint"
    return checkpoint.identity.removeprefix("local:")
