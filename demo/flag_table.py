"""The flags of every command in one table, and how the text of each becomes a value. They are read in `demo.flags`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from demo.accounts import NAME

PREFIX = "TAGLOOP_"


@dataclass(frozen=True)
class Flag:
    """One flag: its name without dashes, what it is for, and how its text becomes a value."""

    name: str
    help: str
    default: object = None
    convert: Callable[[str], object] = str
    choices: tuple[str, ...] = ()
    metavar: str | None = None
    required: bool = False

    @property
    def is_switch(self) -> bool:
        return self.convert is bool

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper().replace("-", "_")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError("a whole number from 0 is needed")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("a whole number from 1 is needed")
    return number


def _minutes(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("a number above 0 is needed")
    return int(number) if number.is_integer() else number


def _seed(text: str) -> int:
    number = _count(text)
    if number >= 2**63:
        raise ValueError("a whole number under 2**63 is needed")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError("a finite number from 0 is needed")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("a number from 0 to 1 is needed")
    return number


def _threshold(text: str) -> str | float:
    if text in ("tuned", "mcut"):
        return text
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("a number from 0 to 1, tuned or mcut is needed")
    return number


def _models(text: str) -> tuple[str, ...]:
    """Owners and repos, separated by commas; none for no model at all."""
    names = () if text.strip() == "none" else tuple(part.strip() for part in text.split(","))
    for name in names:
        if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII):
            raise ValueError("owners and repos such as timm,owner/name are needed, or none")
    return names


def _people(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if not NAME.fullmatch(name):
            raise ValueError("names separated by commas are needed")
    return names


MODEL = Flag(
    "model", "checkpoint: owner/name, owner/name@revision or a folder (default: assets/checkpoint)", metavar="REF"
)
DEVICE = Flag("device", "where the model runs", "auto", choices=("auto", "cpu", "cuda", "mps"))
BATCH_SIZE = Flag("batch-size", "images a step", 32, _positive, metavar="N")
CSV = Flag(
    "csv",
    "corrections CSV, metadata.csv, fastai CSV, 0/1 columns, PaddleClas list file, JSON export, or a folder of images "
    "with .txt files",
    required=True,
    metavar="FILE",
)

COMMANDS: dict[str, tuple[Flag, ...]] = {
    "app": (
        MODEL,
        Flag(
            "corrections",
            "folder of the corrections CSV and its images (default: corrections; where nothing can be written here, "
            "~/.local/share/tagloop/corrections)",
            metavar="DIR",
        ),
        Flag("images", "folder of images to work through", metavar="DIR"),
        DEVICE,
        Flag("host", "address to listen on (default: GRADIO_SERVER_NAME or 127.0.0.1)", metavar="H"),
        Flag("port", "port to listen on (default: GRADIO_SERVER_PORT or 7860)", None, _count, metavar="P"),
        Flag(
            "auth",
            "file of NAME:PASSWORD lines, of who may log in; none for no login on a host that others reach",
            metavar="FILE|none",
        ),
        Flag("savers", "the only people who may save, by the names of their login", None, _people, metavar="NAME,NAME"),
        Flag(
            "retrainers",
            "the only people who may fine-tune on the page (default: where others reach it, the owner of the Space)",
            None,
            _people,
            metavar="NAME,NAME",
        ),
        Flag("mcp", "also serve the API as MCP tools", False, bool),
        Flag("log", "a line of JSON on stderr for each event (default: where others reach the page)", None, bool),
        Flag(
            "allow-models",
            "the only owners and repos of the Hub that visitors may load, or none (default: any)",
            None,
            _models,
            metavar="OWNER,OWNER/NAME",
        ),
        Flag("sync", "dataset repo to keep the corrections in, for a disk that does not last", metavar="OWNER/NAME"),
        Flag("sync-minutes", "minutes that a saved row may wait for that", 5, _minutes, metavar="N"),
    ),
    "tag": (
        MODEL,
        Flag(
            "threshold",
            "0 to 1, tuned (per label) or mcut (default: the checkpoint's own)",
            None,
            _threshold,
            metavar="T",
        ),
        Flag("out", "CSV to write", "tags.csv", metavar="FILE"),
        Flag("scores", "also write every score here, as .npz", metavar="FILE"),
        BATCH_SIZE,
        Flag("workers", "threads that decode images", 2, _positive, metavar="N"),
        DEVICE,
        Flag("resume", "keep the rows that the CSV already has", False, bool),
    ),
    "finetune": (
        # what goes in and out
        CSV,
        Flag("out", "folder for the new checkpoint; empty or new", required=True, metavar="DIR"),
        MODEL,
        Flag("labels", "a new vocabulary: JSON {label: [old label, …]}", metavar="MAP.json"),
        Flag("new-labels", "labels in the CSV that the model lacks", "add", choices=("add", "error", "skip")),
        # what is learned
        Flag("unknown", "what an unknown cell teaches", "distill", choices=("distill", "ignore", "negative")),
        Flag("loss", "the loss on known cells", "bce", choices=("bce", "asl")),
        Flag("weight", "weight of a label's known cells: a number, or a JSON file {label: number}", metavar="W"),
        Flag("pos-weight", "weight of a label's confirmed cells, likewise", metavar="W"),
        Flag("replay", "folder of images on which the old model's scores are to stay as they are", metavar="DIR"),
        Flag(
            "train",
            "which weights move; auto goes by the number of images",
            "auto",
            choices=("auto", "head", "norm", "full"),
        ),
        # how long and how fast
        Flag("epochs", "epochs of the phase that moves the backbone (default: by --train)", None, _count, metavar="N"),
        Flag("head-epochs", "epochs of the frozen-backbone phase", 30, _count, metavar="N"),
        BATCH_SIZE,
        Flag(
            "lr-head",
            "highest learning rate of the head; a tenth of it beside norms and biases",
            1e-3,
            _rate,
            metavar="LR",
        ),
        Flag(
            "lr-backbone",
            "highest learning rate of the backbone; each layer down has 0.75 of it (default: by --train)",
            None,
            _rate,
            metavar="LR",
        ),
        Flag("image-size", "square input in pixels (default: the checkpoint's)", None, _positive, metavar="PX"),
        # the recipe
        Flag(
            "distill-weight",
            "weight of unknown cells beside known ones under --unknown distill",
            0.3,
            _rate,
            metavar="W",
        ),
        Flag("teacher-share", "share of a known cell's target that is the old model's score", 0.0, _share, metavar="P"),
        Flag("mosaic", "share of training images that are four photos in a grid", 0.0, _share, metavar="P"),
        Flag(
            "balance", "draw photos of labels rarer than this share of the photos more often", 0.0, _share, metavar="P"
        ),
        Flag("min-crop", "smallest share of a photo that a random crop keeps", 0.6, _share, metavar="P"),
        Flag("flip", "mirror half of the photos in training; --no-flip where labels name sides or text", True, bool),
        Flag(
            "blend",
            "share of the new weights in what is saved; the rest is the start's (default: by the held-out images)",
            None,
            _share,
            metavar="P",
        ),
        Flag(
            "crop-mode",
            "how a photo becomes square (default: the checkpoint's)",
            choices=("center", "squash", "border"),
        ),
        DEVICE,
        Flag("workers", "processes that decode and augment images", 2, _count, metavar="N"),
        # how it is used
        Flag(
            "target-precision",
            "thresholds are the lowest that reach this precision (default: the best F1)",
            None,
            _share,
            metavar="P",
        ),
        # the rest
        Flag("half", "store the weights in fp16", False, bool),
        Flag("seed", "same seed, same machine: same metrics", 0, _seed, metavar="N"),
        Flag("resume", "go on from an interrupted run in --out", False, bool),
        Flag(
            "check",
            "train nothing: list every bad row, show one sample's way, draw augmented samples into OUT-check.png",
            False,
            bool,
        ),
    ),
    "evaluate": (
        CSV,
        MODEL,
        Flag("split", "rows to score", "valid", choices=("valid", "train", "all")),
        Flag("json", "write the report here", metavar="FILE"),
        Flag("predictions", "write scores, targets and file names here, as .npz", metavar="FILE"),
        BATCH_SIZE,
        DEVICE,
    ),
    "export": (
        # corrections
        replace(CSV, required=False),
        Flag("format", "whose format --csv is written in", choices=("fastai", "imagefolder", "txt", "json")),
        # or a checkpoint
        Flag("model", "checkpoint to write as ONNX: owner/name, owner/name@revision or a folder", metavar="REF"),
        Flag("out", "file to write; for imagefolder and txt a folder, or a .zip", required=True, metavar="PATH"),
    ),
    "publish": (
        Flag("private", "only you, and whom you let, may read the repo that is made", False, bool),
        Flag("yes", "publish without asking, unless the verdict is worse", False, bool),
    ),
    "sync": (Flag("out", "folder for the corrections; empty or new", required=True, metavar="DIR"),),
}

ONE_OF: dict[str, tuple[str, ...]] = {"export": ("csv", "model")}
"""Flags of which a command takes exactly one. One on the command line wins over the variables of the others."""
