"""What a checkpoint's own files say of it. Four layouts are read, and each is told as the fourth: plain timm.

1. animetimm: `preprocess.json` and `selected_tags.csv`.
2. WD v3: `selected_tags.csv` with a `tag_id` column, an `architecture`, no label names in the config.
3. transformers: `model_type` (see `demo.conversion`).
4. plain timm: `architecture`, label names in the config, in `selected_tags.csv`, or ImageNet's by their number.

Builds no model. Every complaint is a CheckpointError that names the file.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import timm
from timm.data import ImageNetInfo, infer_imagenet_subset

from demo import conversion
from demo.conversion import MULTI_LABEL, SINGLE_LABEL, State
from demo.errors import CheckpointError
from demo.labels import LabelSet
from demo.preprocessing import SQUARE, TIMM

CONFIG, WEIGHTS, TAGS, METRICS, CARD = (
    "config.json",
    "model.safetensors",
    "selected_tags.csv",
    "metrics.json",
    "README.md",
)
PREPROCESS, CATEGORIES, THRESHOLDS, PROCESSOR = (
    "preprocess.json",
    "categories.json",
    "thresholds.csv",
    "preprocessor_config.json",
)
DANBOORU = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta", "9": "rating"}
"""Danbooru's numbers of its categories, which its taggers keep."""
_SYNSET = re.compile(r"n\d{8}")
_RECOMMENDED = re.compile(r"threshold\s*=\s*(0?\.\d+)", re.IGNORECASE)


class Plain(NamedTuple):
    """A checkpoint as plain timm has it.

    config: timm's, and beside it `problem_type`, and where they differ from timm's own: `preprocess` (see
    `demo.preprocessing`), `pool` and `layer_norm_eps` (see `demo.conversion`), `threshold` (the one its authors
    recommend). state: the weights by timm's names, for RGB.
    """

    config: dict[str, Any]
    labels: LabelSet
    state: State


def read_layout(folder: Path, config: dict[str, Any], state: State) -> Plain:
    """Find out the layout of a checkpoint's files and tell it as plain timm. Raises CheckpointError."""
    has_names = bool(_names(folder, config))
    if (folder / PREPROCESS).exists() and (folder / TAGS).exists():
        return _animetimm(folder, config, state)
    if "architecture" in config and not has_names and "tag_id" in _header(folder / TAGS).split(","):
        return _wd(folder, config, state)
    if "model_type" in config:
        processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).exists() else None
        try:
            names, converted, state = conversion.from_transformers(config, processor, state)
        except conversion.NotConvertible as error:
            raise CheckpointError(f"{folder} is a transformers checkpoint that cannot be used.", str(error)) from error
        return Plain(converted, LabelSet(_distinct(names)), state)
    _require_architecture(folder, config)
    return _timm(folder, config, state)


def read_json(path: Path) -> dict[str, Any]:
    value = _parsed(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return value


def part_of(config: dict[str, Any], key: str, folder: Path) -> dict[str, Any]:
    value = config.get(key) or {}
    if not isinstance(value, dict):
        raise CheckpointError(f"{key} in {folder / CONFIG} is not a JSON object.")
    return value


def _animetimm(folder: Path, config: dict[str, Any], state: State) -> Plain:
    _require_architecture(folder, config)
    steps = read_json(folder / PREPROCESS).get("test")
    if not isinstance(steps, list) or not all(isinstance(step, dict) and "type" in step for step in steps):
        raise CheckpointError(f"{folder / PREPROCESS} has no list of steps named test.")
    called = dict(DANBOORU)
    if (folder / CATEGORIES).exists():
        told = _parsed(folder / CATEGORIES)
        try:
            called |= {str(entry["category"]): str(entry["name"]) for entry in told}
        except (TypeError, KeyError) as error:
            raise CheckpointError(f"{folder / CATEGORIES} is not a list of categories with names.") from error
    labels = LabelSet.from_csv(folder / TAGS, called)
    by_category = _thresholds(folder / THRESHOLDS, called)
    if by_category and labels.categories and not labels.thresholds:
        labels = replace(labels, thresholds=tuple(by_category.get(category) for category in labels.categories))
    return Plain(
        config
        | {"problem_type": MULTI_LABEL, "preprocess": {"white": True, "steps": steps}}
        | ({"threshold": by_category["general"]} if "general" in by_category else {}),
        labels,
        state,
    )


def _wd(folder: Path, config: dict[str, Any], state: State) -> Plain:
    """Its models take BGR; turning the first convolution around takes RGB, and every score stays."""
    _require_architecture(folder, config)
    card = (folder / CARD).read_text(encoding="utf-8", errors="replace") if (folder / CARD).exists() else ""
    recommended = _RECOMMENDED.search(card)
    return Plain(
        config
        | {"problem_type": MULTI_LABEL, "preprocess": {"white": True, "steps": [SQUARE, TIMM]}}
        | ({"threshold": float(recommended[1])} if recommended else {}),
        LabelSet.from_csv(folder / TAGS, DANBOORU),
        _channels_reversed(folder, config, state),
    )


def _timm(folder: Path, config: dict[str, Any], state: State) -> Plain:
    names, tags = _names(folder, config), folder / TAGS
    if not names and not tags.exists():
        subset = infer_imagenet_subset({"num_classes": _outputs(folder, config)})
        if subset is None:
            raise CheckpointError(
                f"{folder / CONFIG} names no labels.", "A plain timm checkpoint has them in label_names."
            )
        imagenet = ImageNetInfo(subset)
        names = [imagenet.index_to_description(index) for index in range(imagenet.num_classes())]
        return Plain({"problem_type": SINGLE_LABEL} | config, LabelSet(_distinct(names)), state)
    labels = LabelSet.from_csv(tags) if tags.exists() else LabelSet(names)
    if names and labels.names != names:
        why = f"They hold {len(labels)} and {len(names)} labels."
        for position, (one, other) in enumerate(zip(labels.names, names, strict=False)):
            if one != other:
                why += f" Number {position} is {one!r} in one and {other!r} in the other."
                break
        raise CheckpointError(f"{tags} and config.json do not name the same labels in the same order.", why)
    synsets = all(_SYNSET.fullmatch(name) for name in labels.names)
    return Plain({"problem_type": SINGLE_LABEL if synsets else MULTI_LABEL} | config, labels, state)


def _outputs(folder: Path, config: dict[str, Any]) -> int | None:
    """How many outputs a timm config says its head has."""
    told = config.get("num_classes") or part_of(config, "pretrained_cfg", folder).get("num_classes")
    return told if isinstance(told, int) else None


def _channels_reversed(folder: Path, config: dict[str, Any], state: State) -> State:
    known = timm.get_pretrained_cfg(config["architecture"])
    first = part_of(config, "pretrained_cfg", folder).get("first_conv") or (known and known.first_conv)
    keys = [f"{name}.weight" for name in ([first] if isinstance(first, str) else first or ())]
    if not keys or not all(key in state and state[key].ndim == 4 and state[key].shape[1] == 3 for key in keys):
        raise CheckpointError(
            f"The first convolution of {config['architecture']} is not in {folder / WEIGHTS}.",
            "A WD tagger takes BGR, and its weights are turned to take RGB.",
        )
    return state | {key: state[key].flip(1) for key in keys}


def _require_architecture(folder: Path, config: dict[str, Any]) -> None:
    architecture = config.get("architecture")
    if not isinstance(architecture, str) or not timm.is_model(architecture):
        raise CheckpointError(
            f"{folder / CONFIG} names the architecture {architecture!r}.", f"timm {timm.__version__} has no such model."
        )


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


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with their number behind those that come twice, as ImageNet's two cranes do."""
    times = Counter(names)
    return tuple(name if times[name] == 1 else f"{name} ({number})" for number, name in enumerate(names))


def _thresholds(path: Path, called: dict[str, str]) -> dict[str, float]:
    """animetimm's threshold of each category, the first of several; empty where there is no such file."""
    if not path.exists():
        return {}
    try:
        rows = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        told = [(called.get(row["category"], row["category"]), float(row["threshold"])) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        why = f"It should hold a category and a threshold in each line ({type(error).__name__}: {error})."
        raise CheckpointError(f"{path} cannot be used.", why) from error
    return dict(reversed(told))


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON.", f"{error}.") from error


def _header(path: Path) -> str:
    """The first line of a table, or an empty one."""
    if not path.is_file():
        return ""
    return path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].strip()
