"""What a checkpoint's own files say of it: the layout, the label names, the kind of head.

Reads `config.json` and `selected_tags.csv`; builds no model. Every complaint is a CheckpointError that names the
file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import timm

from demo.errors import CheckpointError
from demo.labels import LabelSet

CONFIG, WEIGHTS, TAGS, METRICS, CARD = (
    "config.json",
    "model.safetensors",
    "selected_tags.csv",
    "metrics.json",
    "README.md",
)
SINGLE_LABEL = "single_label_classification"
_SYNSET = re.compile(r"n\d{8}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON.", f"{error}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return value


def require_plain_timm(folder: Path, config: dict[str, Any]) -> None:
    """Raise CheckpointError, naming the layout, for what is not plain timm."""
    tags = folder / TAGS
    layout = None
    if (folder / "preprocess.json").exists():
        layout = "an animetimm checkpoint (preprocess.json)"
    elif "architecture" in config and not _names(folder, config) and "tag_id" in _header(tags):
        layout = "a WD tagger (selected_tags.csv with tag_id)"
    elif "model_type" in config:
        layout = "a transformers checkpoint (model_type in config.json)"
    if layout:
        raise CheckpointError(f"{folder} is {layout}.", "Plain timm checkpoints are loaded so far.")
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise CheckpointError(
            f"{folder / CONFIG} names the architecture {architecture!r}.", f"timm {timm.__version__} has no such model."
        )


def labels_of(folder: Path, config: dict[str, Any]) -> LabelSet:
    """The label set of a plain timm config; categories and thresholds from `selected_tags.csv` where it is."""
    names = _names(folder, config)
    if not names:
        raise CheckpointError(f"{folder / CONFIG} names no labels.", "A plain timm checkpoint has them in label_names.")
    labels = LabelSet(names)
    if (folder / TAGS).exists():
        tags = LabelSet.from_csv(folder / TAGS)
        if tags.names != labels.names:
            why = f"They hold {len(tags)} and {len(labels)} labels."
            for position, (one, other) in enumerate(zip(tags.names, labels.names, strict=False)):
                if one != other:
                    why += f" Number {position} is {one!r} in one and {other!r} in the other."
                    break
            raise CheckpointError(
                f"{folder / TAGS} and config.json do not name the same labels in the same order.", why
            )
        return tags
    return labels


def _names(folder: Path, config: dict[str, Any]) -> tuple[str, ...]:
    """Label names in logit order from a timm config: a list, or an object by index; empty where there are none."""
    names = config.get("label_names") or part_of(config, "pretrained_cfg", folder).get("label_names")
    names = names or config.get("tags") or ()
    if isinstance(names, dict):
        by_index = {int(key): name for key, name in names.items() if key.isdecimal()}
        if by_index and sorted(by_index) != list(range(len(names))):
            raise CheckpointError(f"The label numbers in {folder / CONFIG} are not 0 to {len(names) - 1}, each once.")
        names = [by_index[index] for index in sorted(by_index)] or list(names.values())
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | int) for name in names):
        raise CheckpointError(f"The label names in {folder / CONFIG} are not a list of strings.")
    return tuple(str(name) for name in names)


def _header(path: Path) -> str:
    """The first line of a table, or an empty one."""
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else ""


def part_of(config: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{key} in {folder / CONFIG} is not a JSON object.")
    return value


def is_single_label(config: dict[str, Any], labels: LabelSet) -> bool:
    if "problem_type" in config:
        return config["problem_type"] == SINGLE_LABEL
    return all(_SYNSET.fullmatch(name) for name in labels.names)
