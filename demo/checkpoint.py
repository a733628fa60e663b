"""A Hub repo or a folder becomes a `Checkpoint`: model, labels, preprocessing, revision; and a folder again.

Reads safetensors only, runs no remote code and never half-loads: whatever is wrong is a CheckpointError (or a
HubError, see `demo.hub`) before anything is handed out. `demo.layouts` tells every layout as plain timm; that is
built here, and that is what is saved.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from timm.data import resolve_data_config
from timm.models import PretrainedCfg

from demo import hub
from demo.conversion import finish
from demo.durable import put, sync_folder
from demo.errors import CheckpointError
from demo.labels import LabelSet
from demo.layouts import (
    CARD,
    CONFIG,
    METRICS,
    MULTI_LABEL,
    SINGLE_LABEL,
    TAGS,
    WEIGHTS,
    part_of,
    read_json,
    read_layout,
)
from demo.preprocessing import Preprocess
from demo.settings import EMBEDDED_CHECKPOINT

DEFAULT_THRESHOLD = 0.5
MAX_BLOCKS, MAX_SURPLUS = 1000, 10**7
"""What a config may ask for: blocks in a row, and weights beyond twice those in its file."""
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
    def origin(self) -> str:
        """The REF that loads the same weights again: the folder, or the repo at its commit."""
        return str(Path(self.ref).absolute()) if self.identity.startswith("local:") else self.identity

    @property
    def threshold(self) -> float:
        """The recommended threshold in [0, 1]: the one its metrics were measured at, or its authors'."""
        for value in (self.metrics.get("threshold"), self.config.get("threshold")):
            if isinstance(value, int | float) and 0 <= value <= 1:
                return float(value)
        return DEFAULT_THRESHOLD

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
    config, labels, state = read_layout(folder, read_json(folder / CONFIG), _weights(folder / WEIGHTS))
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
        single_label=config.get("problem_type") == SINGLE_LABEL,
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
        "problem_type": SINGLE_LABEL if checkpoint.single_label else MULTI_LABEL,
        "label_names": list(checkpoint.labels.names),
        "pretrained_cfg": {
            "num_classes": len(checkpoint.labels),
            **{key: data[key] for key in ("input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")},
            "fixed_input_size": bool(model.pretrained_cfg.get("fixed_input_size", False)),
            "first_conv": model.pretrained_cfg.get("first_conv"),
            "classifier": model.pretrained_cfg.get("classifier"),
        },
        **{key: checkpoint.config[key] for key in ("layer_norm_eps", "pool", "threshold") if key in checkpoint.config},
        **({"preprocess": preprocess} if (preprocess := checkpoint.preprocess.to_config()) else {}),
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
    return replace(checkpoint, preprocess=checkpoint.preprocess.with_data(data), config=config)


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
    create = partial(timm.create_model, config["architecture"], pretrained=False, pretrained_cfg=pretrained_cfg)
    try:
        _refuse_giants(create, arguments, state)
        model = finish(create(**arguments), config)
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


def _refuse_giants(create: Callable, arguments: dict[str, Any], state: dict[str, torch.Tensor]) -> None:
    """Raise ValueError for a model that is far larger than its weights' file, before it takes the memory."""
    for key in arguments:
        blocks = arguments[key] if isinstance(arguments[key], list) else [arguments[key]]
        if ("depth" in key or "layers" in key) and any(isinstance(one, int) and one > MAX_BLOCKS for one in blocks):
            raise ValueError(f"{key} is {arguments[key]}")
    with torch.device("meta"):
        wanted = sum(tensor.numel() for tensor in create(**arguments).state_dict().values())
    held = sum(tensor.numel() for tensor in state.values())
    if wanted > 2 * held + MAX_SURPLUS:
        raise ValueError(f"it asks for {wanted} weights, and {WEIGHTS} holds {held}")


def _preprocess(config: dict[str, Any], model: torch.nn.Module, folder: Path) -> Preprocess:
    """The preprocessing, once it has made pixels that the model takes."""
    try:
        given, embedding = part_of(config, "pretrained_cfg", folder), getattr(model, "patch_embed", None)
        takes = tuple(embedding.img_size) if getattr(embedding, "strict_img_size", False) else None
        size = {"input_size": (3, *takes)} if takes and "input_size" not in given else {}
        data = resolve_data_config(size, pretrained_cfg=given, model=model)
        data = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        preprocess = Preprocess.from_config(data, part_of(config, "preprocess", folder))
        made = tuple(preprocess.data["input_size"][1:])
        if takes and made != takes:
            raise ValueError(f"images come at {made} and the model takes {takes}")
    except Exception as error:
        why = f"{type(error).__name__}: {error}."
        raise CheckpointError(f"The preprocessing of {folder} cannot be used.", why) from error
    return preprocess


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
