"""Weights that mean harm or are broken: each is refused with an error that says why, and no pickle runs.

The planted implementation is `torch.load` in the place of our reader of safetensors.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from demo import checkpoint, hub
from demo.checkpoint import load_checkpoint
from demo.errors import CheckpointError
from tests.faults.table import demand, planted

WEIGHTS = "model.safetensors"
Spoil = Callable[[Path, Path], object]
"""Breaks the weights of a checkpoint's folder; the second path is what a canary makes when it runs."""


class Canary:
    """Whoever opens its pickle makes a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)


def torch_pickle(name: str) -> Spoil:
    def spoil(folder: Path, trace: Path) -> None:
        (folder / WEIGHTS).unlink()
        torch.save({"state_dict": Canary(trace)}, folder / name)

    return spoil


def plain_pickle(folder: Path, trace: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps({"head.weight": Canary(trace)}))


def content(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder, _: (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))


def overlapping(whole: bytes) -> bytes:
    header = json.loads(whole[8 : 8 + struct.unpack("<Q", whole[:8])[0]])
    first, second = [name for name in header if name != "__metadata__"][:2]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + whole[-1000:]


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(folder: Path, _: Path) -> None:
        state = load_file(folder / WEIGHTS)
        change(state)
        save_file(state, folder / WEIGHTS)

    return spoil


def filled(value: float) -> Spoil:
    return tensors(lambda state: state["blocks.0.attn.qkv.weight"].view(-1)[5].fill_(value))


NOT_WHOLE, NO_FIT = "model.safetensors is not a whole safetensors file.", "do not fit vit_tiny_patch16_224"
NOT_FINITE = "model.safetensors holds NaN or infinity in blocks.0.attn.qkv.weight."
HOSTILE: dict[str, list[tuple[Spoil, str]]] = {
    "pickle": [
        (torch_pickle(WEIGHTS), NOT_WHOLE),
        (torch_pickle("pytorch_model.bin"), hub.ONLY_SAFETENSORS),
        (plain_pickle, NOT_WHOLE),
    ],
    "truncated": [
        (content(lambda whole: b""), NOT_WHOLE),
        (content(lambda whole: whole[:100]), NOT_WHOLE),
        (content(lambda whole: whole[: len(whole) // 2]), NOT_WHOLE),
        (content(lambda whole: whole[:-1]), NOT_WHOLE),
        (content(lambda whole: whole + b"\0"), NOT_WHOLE),
        (content(lambda whole: b"this is no file of weights" * 100), NOT_WHOLE),
    ],
    "huge header": [
        (content(lambda whole: struct.pack("<Q", 2**62) + whole[8:]), NOT_WHOLE),
        (content(lambda whole: struct.pack("<Q", len(whole)) + whole[8:]), NOT_WHOLE),
    ],
    "overlapping tensors": [(content(overlapping), NOT_WHOLE)],
    "wrong shape": [
        (tensors(lambda state: state.update({"norm.weight": torch.ones(47)})), NO_FIT),
        (tensors(lambda state: state.update({"head.weight": torch.ones(12, 47)})), NO_FIT),
        (tensors(lambda state: state.update(extra=torch.ones(2))), NO_FIT),
        (tensors(lambda state: state.pop("norm.weight")), NO_FIT),
        (tensors(lambda state: state.pop("head.weight")), NO_FIT),
        (tensors(lambda state: state.clear()), NO_FIT),
    ],
    "NaN": [
        (filled(float("nan")), NOT_FINITE),
        (filled(float("inf")), NOT_FINITE),
        (filled(-float("inf")), NOT_FINITE),
    ],
}
"""Ways to break the weights, by the row's kinds, each with what the error has to say."""


def unclear(model: Path, folder: Path) -> list[str]:
    """Of each kind of which one way was not refused with a clear error: what came instead. The canary last."""
    wrong, trace = [], folder / "trace"
    for kind, ways in HOSTILE.items():
        for number, (spoil, words) in enumerate(ways):
            mine = Path(shutil.copytree(model, folder / f"{kind} {number}"))
            spoil(mine, trace)
            try:
                load_checkpoint(mine)
                wrong.append(f"{kind}: loaded")
            except CheckpointError as error:
                if words not in str(error) or str(mine) not in str(error):
                    wrong.append(f"{kind}: {error}")
            except Exception as error:
                wrong.append(f"{kind}: {type(error).__name__}")
    return wrong + ["the canary ran"] * trace.exists()


@demand("hostile weights")
def test_hostile_weights_are_refused_with_the_reason_and_no_pickle_runs(
    tmp_path: Path, tiny_checkpoint: Path, figure: Callable[[str], None]
) -> None:
    wrong = unclear(tiny_checkpoint, tmp_path)
    kinds = len(HOSTILE) - len({said.partition(":")[0] for said in wrong} & set(HOSTILE))
    canary = "ran" if "the canary ran" in wrong else "never ran"
    figure(
        f"{kinds} of {len(HOSTILE)} clear errors, in {sum(map(len, HOSTILE.values()))} ways, and the canary {canary}"
    )
    assert wrong == []


@planted("hostile weights")
def test_the_check_of_weights_catches_torch_load(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsafe(path: Path) -> dict[str, torch.Tensor]:
        with path.open("rb") as file:  # by its name it would be read as safetensors
            return torch.load(file, weights_only=False)

    monkeypatch.setattr(checkpoint, "_weights", unsafe)
    wrong = unclear(tiny_checkpoint, tmp_path)
    assert "the canary ran" in wrong
    assert {said.partition(":")[0] for said in wrong} >= set(HOSTILE)
