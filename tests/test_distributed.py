"""Several processes on one fine-tune: gloo between real processes on this machine."""

from __future__ import annotations

import csv
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.multiprocessing
from safetensors.numpy import load_file
from timm.data import resolve_data_config

from demo import finetune
from demo.dataset import KNOWN, SOFT, Cells, TrainingPhotos
from demo.distributed import ALONE, joined
from demo.errors import EXIT_INTERRUPTED, Interrupted
from demo.preprocessing import Preprocess
from demo.progress import Progress
from demo.training import BackboneTraining, Recipe, cell_loss

RECIPE = Recipe(
    train="full", loss="bce", epochs=1, head_epochs=0, batch_size=8, lr_head=1e-3, lr_backbone=1e-4,
    distill_weight=0.5, mosaic=0, min_crop=1, balance=0, workers=0, seed=0, device="cpu",
)  # fmt: skip
PHOTOS = 61
WAYS = {"full": ("--train", "full", "--blend", "1"), "norm": ("--train", "norm", "--batch-size", "50")}


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def set_up_as_torchrun_does(rank: int, size: int, port: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": port,
         "MASTER_ADDR": "127.0.0.1"}
    )  # fmt: skip


def run_process(rank: int, size: int, port: str, work: Callable, results: object) -> None:
    set_up_as_torchrun_does(rank, size, port)
    with joined("cpu") as group:
        results.put((rank, work(group)))


def in_group(size: int, work: Callable) -> list:
    """What `work(group)` gives in each of `size` processes, by rank."""
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    torch.multiprocessing.start_processes(
        run_process, (size, free_port(), work, results), nprocs=size, start_method="spawn"
    )
    return [value for _, value in sorted(results.get() for _ in range(size))]


def run_finetunes(rank: int, size: int, runs: dict[str, Sequence[str]]) -> None:
    """runs: arguments by port; one port for all would have a process meet the run that another still ends."""
    for port, arguments in runs.items():
        set_up_as_torchrun_does(rank, size, port)
        assert finetune.main(arguments) == 0


def known_batch():
    generator = torch.Generator().manual_seed(0)
    logits, values = torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator)
    kind = torch.randint(0, 3, (6, 4), generator=generator)
    kind[0], kind[1] = KNOWN, SOFT  # so that the shares have unlike numbers of cells
    return logits, values, kind


def everything(group):
    """What a process of the group sees, for the tests below; processes are slow to start."""
    items = np.array(group.share(range(7), 2), int)
    gathered = group.gather(np.stack([items, items**2], 1), 7, 2).tolist()
    none = np.array(group.share(range(3), 4), int)  # the second and the third process take nothing
    gathered_of_one = group.gather(none, 3, 4).tolist()
    logits, values, kind = known_batch()
    logits.requires_grad_(True)
    rows = group.share(range(6))
    counts = group.sum(*((kind[rows] == which).sum().item() for which in (KNOWN, SOFT)))
    loss = cell_loss(logits[rows], values[rows], kind[rows], RECIPE, counts)
    loss.backward()
    tensors = {"weight": torch.full((2,), float(group.rank))}
    group.same(tensors)
    group.add_up(logits.grad)
    return gathered, gathered_of_one, group.sum(loss.item()), logits.grad.tolist(), tensors["weight"].tolist()


@pytest.fixture(scope="module")
def seen() -> list[tuple]:
    return in_group(3, everything)


def test_what_is_gathered_is_every_item_once_and_in_order(seen):
    assert [gathered for gathered, *_ in seen] == [[[i, i * i] for i in range(7)]] * 3
    assert [gathered for _, gathered, *_ in seen] == [[0, 1, 2]] * 3


def test_a_shared_batch_has_the_loss_and_the_gradient_of_one_process(seen):
    logits, values, kind = known_batch()
    logits.requires_grad_(True)
    whole = cell_loss(logits, values, kind, RECIPE)
    whole.backward()
    for _, _, (loss,), gradient, _ in seen:
        assert loss == pytest.approx(whole.item(), rel=1e-6)
        assert np.allclose(gradient, logits.grad.numpy(), atol=1e-6)


def test_every_process_gets_the_firsts_tensors(seen):
    assert [weight for *_, weight in seen] == [[0.0, 0.0]] * 3


def test_one_process_exchanges_nothing_and_has_everything():
    assert ALONE.share([5, 6, 7], 2) == [5, 6, 7]
    assert ALONE.sum(1, 2) == [1, 2]
    with joined("cpu", {}) as group:
        assert group is ALONE


def test_the_statistics_of_batch_norms_stay_and_their_weights_are_trained(image_folder):
    """Statistics would be those of the chunks that one process of several computed."""
    model = timm.create_model("test_resnet", num_classes=2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    preprocess = Preprocess(resolve_data_config({"input_size": (3, 32, 32)}, model=model))
    targets = np.eye(2, dtype=np.float32)[np.arange(8) % 2]
    photos = TrainingPhotos(sorted(image_folder.iterdir()), Cells.build(targets, "ignore"), preprocess, seed=0)
    recipe = replace(RECIPE, epochs=4, lr_backbone=0.1)
    BackboneTraining(model, photos, targets, recipe).run(Progress(None), lambda: None, lambda: None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == ("running" in name or "num_batches" in name), name


# The whole fine-tune


@pytest.fixture(scope="module")
def common(tmp_path_factory, tiny_checkpoint, make_image) -> list[str]:
    """Flags of a fine-tune of sixty-one pictures, a third held out, in batches that two processes cannot halve."""
    folder = tmp_path_factory.mktemp("photos")
    with (folder / "c.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "labels", "rejected", "reviewed", "is_valid"])
        for number in range(PHOTOS):
            (folder / f"{number}.png").write_bytes(make_image(number))
            present, absent = ("cat", "dog") if number % 2 else ("dog", "cat")
            writer.writerow([f"{number}.png", json.dumps([present]), json.dumps([absent]), "listed", number % 3 == 0])
    return [
        *("--csv", str(folder / "c.csv"), "--model", str(tiny_checkpoint), "--device", "cpu", "--workers", "0"),
        *("--batch-size", "27", "--epochs", "3", "--mosaic", "0.3", "--lr-backbone", "0.001"),
    ]


@pytest.fixture(scope="module")
def results(common, tmp_path_factory) -> Path:
    """A folder of fine-tunes: each way by one process, by two, and begun by one and gone on with by two."""
    folder, threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    called, by_two = finetune.Stop.__call__, {}
    torch.set_num_threads(1)
    try:
        for name, way in WAYS.items():
            by_two[free_port()] = [*common, *way, "--out", str(folder / f"{name} by two")]
            assert finetune.main([*common, *way, "--out", str(folder / f"{name} by one")]) == 0
        arguments = [*common, *WAYS["full"], "--out", str(folder / "full resumed")]

        def stop_in_the_second_epoch(self) -> None:
            if (folder / "full resumed" / "state.safetensors").exists():
                raise Interrupted("Interrupted.")
            called(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finetune.Stop, "__call__", stop_in_the_second_epoch)
            assert finetune.main(arguments) == EXIT_INTERRUPTED
        by_two[free_port()] = [*arguments, "--resume"]
        torch.multiprocessing.start_processes(run_finetunes, (2, by_two), nprocs=2, start_method="spawn")
    finally:
        torch.set_num_threads(threads)
    return folder


def numbers(value: object, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in nested JSON, with its place."""
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(entry, f"{name}/{key}")
    elif isinstance(value, int | float):
        yield name, value


def apart(first: Path, second: Path) -> tuple[float, float]:
    """The largest difference between two checkpoints' metrics, and between their weights."""
    a, b = (dict(numbers(json.loads((folder / "metrics.json").read_text()))) for folder in (first, second))
    assert a.keys() == b.keys()
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    return max(abs(a[key] - b[key]) for key in a), max(float(np.abs(one[key] - two[key]).max()) for key in one)


@pytest.mark.timeout(1200)  # six fine-tunes, and processes that import torch
@pytest.mark.parametrize(("run", "way"), [("full by two", "full"), ("norm by two", "norm"), ("full resumed", "full")])
def test_two_processes_end_with_the_metrics_and_the_weights_of_one(run, way, results, tiny_checkpoint):
    metrics, weights = apart(results / f"{way} by one", results / run)
    print(f"{run}: metrics differ by {metrics:.1e}, weights by {weights:.1e}")
    assert metrics <= 1e-4
    assert weights <= 1e-6
    start, end = (load_file(folder / "model.safetensors") for folder in (tiny_checkpoint, results / run))
    assert max(float(np.abs(start[key] - end[key]).max()) for key in start if "norm" in key) > 1e-4
