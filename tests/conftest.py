"""What many tests need: a checkpoint that loads in milliseconds, and images that nobody took."""

from __future__ import annotations

import io
import ipaddress
import os
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

with warnings.catch_warnings():  # what importing other people's code warns about is not this project's
    warnings.simplefilter("ignore")
    import timm
    import torch
    from timm.data import resolve_data_config

from demo.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from demo.labels import LabelSet
from demo.preprocessing import Preprocess
from tests.faults.table import Table

NAMES = ("cat", "dog", "bird", "tree", "sky", "water", "person", "car", "food", "flower", "building", "snow")
THRESHOLD = 0.4

# a shell's `&` has it ignored here, and so by the servers and commands that tests end with it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", action="store_true", help="print the table of faults; fail where a row is amiss")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Table(config.getoption("--fault-table")))


def seeded_checkpoint(seed: int = 0, names: tuple[str, ...] = NAMES) -> Checkpoint:
    """A ViT of 67,000 weights at 32 px whose scores spread over [0, 1] and differ from image to image."""
    arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    torch.manual_seed(seed)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=len(names), **arguments).eval()
    torch.nn.init.normal_(model.head.weight, std=0.2)
    torch.nn.init.normal_(model.head.bias, mean=-0.5)
    at = np.linspace(0, 1, 21)
    curve = {"threshold": at, "precision": 0.3 + 0.6 * at, "recall": 1 - at**2, "f1": 0.4 + at * (1 - at)}
    return Checkpoint(
        ref="tiny",
        identity="local:tiny@000000000000",
        model=model,
        labels=LabelSet(names),
        config={"architecture": "vit_tiny_patch16_224", "model_args": arguments},
        preprocess=Preprocess(resolve_data_config({"input_size": (3, 32, 32)}, model=model)),
        metrics={"threshold": THRESHOLD, "curve": {name: values.tolist() for name, values in curve.items()}},
        card="# tiny\n",
    )


@pytest.fixture(scope="session", autouse=True)
def loopback_alone() -> Iterator[None]:
    """No test reaches another machine, or finds out by trying that it cannot."""
    real = socket.socket.connect

    def connect(self: socket.socket, address: tuple) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] != "localhost":
            assert ipaddress.ip_address(address[0]).is_loopback, f"a connection to {address[0]}"
        real(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of 12 labels; read it, copy it, but do not write to it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    save_checkpoint(folder, seeded_checkpoint())
    return folder


@pytest.fixture(scope="session")
def loaded_tiny(tiny_checkpoint: Path) -> Checkpoint:
    return load_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Checkpoint]:
    """`seeded_checkpoint`, for a test that needs another one."""
    return seeded_checkpoint


@pytest.fixture(scope="session")
def make_image() -> Callable[..., bytes]:
    """A function that gives the bytes of a colourful picture, the same ones for the same arguments."""

    def make(seed: int = 0, size: tuple[int, int] = (96, 64), kind: str = "PNG") -> bytes:
        blocks = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        target = io.BytesIO()
        Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(target, kind)
        return target.getvalue()

    return make


@pytest.fixture
def image_folder(tmp_path: Path, make_image: Callable[..., bytes]) -> Path:
    """A folder of eight pictures, 0.png to 7.png."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(8):
        (folder / f"{seed}.png").write_bytes(make_image(seed))
    return folder
