"""A Hub repo or a folder becomes a `Checkpoint`: model, labels, preprocessing, revision; and a folder again.

Reads safetensors only, runs no remote code and never half-loads: whatever is wrong is a CheckpointError (or a
HubError, see `demo.hub`) before anything is handed out. Of the layouts that design.md lists, plain timm is
built here; the others are recognised and named in the error.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.data import resolve_data_config
from timm.models import PretrainedCfg

from demo import hub
from demo.durable import put, sync_folder
from demo.errors import CheckpointError
from demo.labels import LabelSet
from demo.layouts import (
    CARD,
    CONFIG,
    METRICS,
    SINGLE_LABEL,
    TAGS,
    WEIGHTS,
    is_single_label,
    labels_of,
    part_of,
    read_json,
    require_plain_timm,
)
from demo.preprocessing import Preprocess
from demo.settings import EMBEDDED_CHECKPOINT

DEFAULT_THRESHOLD = 0.5
MAX_INPUT_PIXELS = 4096
"""Longest side of a model's input."""
_NO_MODEL_ARGUMENTS = {*inspect.signature(timm.create_model).parameters, "device", "dtype"} - {"kwargs"}


@dataclass
class Checkpoint:
    """A model in eval mode on the CPU in fp32, and all that belongs to it.

    ref: what was asked for. identity: what is written to corrections, `owner/name@<commit>` or
    `local:NAME@<first 12 of the weights' sha256>`. config: the `config.json`. preprocess: decoded image →
    pixels. metrics: `metrics.json`, or empty. single_label: the head was trained with a softmax; its scores are not
    independent.
    """

    ref: str
    identity: str
    model: torch.nn.Module
    labels: LabelSet
    config: dict[str, Any]
    preprocess: Preprocess
    metrics: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    single_label: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """timm's data config: input_size, interpolation, mean, std, crop_pct, crop_mode."""
        return self.preprocess.data

    @property
    def threshold(self) -> float:
        """The recommended threshold in [0, 1]: the one its metrics were measured at."""
        value = self.metrics.get("threshold")
        return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else DEFAULT_THRESHOLD

    @property
    def curve(self) -> dict[str, list[float]] | None:
        """Precision, recall and F1 over the threshold on the validation photos; None where none was stored."""
        curve = self.metrics.get("curve")
        return curve if isinstance(curve, dict) and curve.get("threshold") else None


def load_checkpoint(ref: str | Path | None = None) -> Checkpoint:
    """Load a folder, `owner/name` or `owner/name@revision`; None is the embedded default.

    Raises CheckpointError, or HubError where the Hub is the reason.
    """
    folder, identity = locate(ref)
    config = read_json(folder / CONFIG)
    require_plain_timm(folder, config)
    labels = labels_of(folder, config)
    state = _weights(folder / WEIGHTS)
    model = _build(config, len(labels), state, folder)
    metrics = read_json(folder / METRICS) if (folder / METRICS).exists() else {}
    card = (folder / CARD).read_text(encoding="utf-8", errors="replace") if (folder / CARD).exists() else ""
    return Checkpoint(
        ref=str(ref) if ref is not None else str(EMBEDDED_CHECKPOINT),
        identity=identity,
        model=model.eval(),
        labels=labels,
        config=config,
        preprocess=_preprocess(config, model, folder),
        metrics=metrics,
        card=card,
        single_label=is_single_label(config, labels),
    )


def locate(ref: str | Path | None) -> tuple[Path, str]:
    """The folder that holds a checkpoint's files, fetched where needed, and the checkpoint's identity."""
    ref = str(EMBEDDED_CHECKPOINT if ref is None else ref)
    folder = Path(ref)
    try:
        is_folder = folder.is_dir()
    except OSError:  # a name too long, or a folder that may not be looked into
        is_folder = False
    if not is_folder:
        if hub.is_repo(ref):
            folder, commit = hub.fetch(ref)
            return folder, f"{ref.partition('@')[0]}@{commit}"
        raise CheckpointError(
            f"There is no checkpoint at {ref!r}.",
            "It is neither a folder nor of the form owner/name or owner/name@revision.",
        )
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            why = "A fine-tune that has not finished leaves such a folder." if name == CONFIG else hub.ONLY_SAFETENSORS
            raise CheckpointError(f"The folder {folder} has no {name}.", why)
    return folder, f"local:{folder.resolve().name}@{_sha256(folder / WEIGHTS)[:12]}"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a plain timm checkpoint; `config.json` goes first and comes last: an unfinished folder does not load.

    half: store floating-point weights in fp16.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, data = checkpoint.model, checkpoint.data
    arguments = {key: value for key, value in checkpoint.config.get("model_args", {}).items() if key != "num_classes"}
    config = {
        "architecture": checkpoint.config["architecture"],
        **({"model_args": arguments} if arguments else {}),
        "num_classes": len(checkpoint.labels),
        "num_features": model.num_features,
        "global_pool": checkpoint.config.get("global_pool", model.pretrained_cfg.get("global_pool")),
        "problem_type": SINGLE_LABEL if checkpoint.single_label else "multi_label_classification",
        "label_names": list(checkpoint.labels.names),
        "pretrained_cfg": {
            "num_classes": len(checkpoint.labels),
            **{key: data[key] for key in ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")},
            "fixed_input_size": bool(model.pretrained_cfg.get("fixed_input_size", False)),
            "first_conv": model.pretrained_cfg.get("first_conv"),
            "classifier": model.pretrained_cfg.get("classifier"),
        },
    }
    (folder / CONFIG).unlink(missing_ok=True)
    sync_folder(folder)
    put(folder / WEIGHTS, serialized(model, half))
    put(folder / TAGS, checkpoint.labels.to_csv().encode())
    put(folder / METRICS, (json.dumps(checkpoint.metrics, indent=1, ensure_ascii=False) + "\n").encode())
    put(folder / CARD, checkpoint.card.encode())
    put(folder / CONFIG, (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode())


def serialized(model: torch.nn.Module, half: bool) -> bytes:
    """The safetensors file of a model's weights, floating-point ones in fp16 if `half`, else fp32."""
    dtype = torch.float16 if half else torch.float32
    state = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
    }
    return save(state, metadata={"format": "pt"})


def with_input(checkpoint: Checkpoint, size: int | None, crop_mode: str | None) -> Checkpoint:
    """The same checkpoint on a square input of `size` pixels; position embeddings are resampled (bicubic)."""
    data, config = dict(checkpoint.data), dict(checkpoint.config)
    if crop_mode:
        data |= {"crop_mode": crop_mode} | ({"crop_pct": 1.0} if crop_mode == "squash" else {})
    if size and size != data["input_size"][-1]:
        if not hasattr(checkpoint.model, "set_input_size"):
            raise CheckpointError(
                f"{config['architecture']} takes no other input size.", next_step="Leave --image-size out."
            )
        try:
            checkpoint.model.set_input_size(img_size=(size, size))
        except (AssertionError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{config['architecture']} cannot take {size} px.", f"{error}.") from error
        data["input_size"] = (data["input_size"][0], size, size)
        config["model_args"] = {**config.get("model_args", {}), "img_size": size}
    return replace(checkpoint, preprocess=replace(checkpoint.preprocess, data=data), config=config)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    try:
        state = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file.", f"{error}.", "Fetch or save it again."
        ) from error
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path} holds NaN or infinity in {name}.", "A model of it would score nothing right."
            )
    return state


def _build(config: dict[str, Any], labels: int, state: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    """The timm model with exactly these weights."""
    known = {entry.name for entry in fields(PretrainedCfg)}
    given = part_of(config, "pretrained_cfg", folder)
    pretrained_cfg = {key: value for key, value in given.items() if key in known}
    arguments = part_of(config, "model_args", folder) | {"num_classes": labels}
    if forbidden := _NO_MODEL_ARGUMENTS & set(arguments):  # among them one that opens any file as a pickle
        raise CheckpointError(f"model_args in {folder / CONFIG} holds {min(forbidden)}.", "It describes no model.")
    try:
        model = timm.create_model(config["architecture"], pretrained=False, pretrained_cfg=pretrained_cfg, **arguments)
    except Exception as error:  # any file can ask for anything, and timm checks little of it
        why = f"{type(error).__name__}: {error}."
        raise CheckpointError(f"timm cannot build {config['architecture']} as {folder / CONFIG} asks.", why) from error
    head = model.get_classifier()
    key = next(
        (name for name, parameter in model.named_parameters() if parameter is getattr(head, "weight", None)), None
    )
    if key in state and len(state[key]) != labels:
        raise CheckpointError(
            f"{folder} has {labels} label names but its head has {len(state[key])} outputs.",
            "Each output needs one name.",
            "Take the label list that this model was trained with.",
        )
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise CheckpointError(f"The weights in {folder} do not fit {config['architecture']}.", f"{first}.") from error
    return model


def _preprocess(config: dict[str, Any], model: torch.nn.Module, folder: Path) -> Preprocess:
    """The preprocessing, once it has made pixels."""
    try:
        data = resolve_data_config({}, pretrained_cfg=part_of(config, "pretrained_cfg", folder), model=model)
        channels, height, width = data["input_size"]
        if channels != 3 or not all(0 < side <= MAX_INPUT_PIXELS for side in (height, width)):
            raise ValueError(f"input_size is {data['input_size']}")
        data = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        preprocess = Preprocess(data)
        if not torch.isfinite(preprocess(Image.new("RGB", (8, 8)))).all():
            raise ValueError(f"std is {data['std']}")
    except Exception as error:
        why = f"{type(error).__name__}: {error}."
        raise CheckpointError(f"The preprocessing in {folder / CONFIG} cannot be used.", why) from error
    return preprocess


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
