"""Several processes on one fine-tune: gloo between real processes on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.multiprocessing

from demo.dataset import KNOWN, SOFT
from demo.distributed import ALONE, joined
from demo.training import Recipe, cell_loss

RECIPE = Recipe(
    train="full", loss="bce", epochs=1, head_epochs=0, batch_size=8, lr_head=1e-3, lr_backbone=1e-4,
    distill_weight=0.5, mosaic=0, min_crop=1, balance=0, workers=0, seed=0, device="cpu",
)  # fmt: skip


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_process(rank: int, size: int, port: str, work: Callable, results: object) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": port,
         "MASTER_ADDR": "127.0.0.1"}
    )  # fmt: skip
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


def known_batch():
    generator = torch.Generator().manual_seed(0)
    logits, values = torch.randn(6, 4, generator=generator), torch.rand(6, 4, generator=generator)
    kind = torch.randint(0, 3, (6, 4), generator=generator)
    kind[0], kind[1] = KNOWN, SOFT  # so that the shares have unlike numbers of cells
    return logits, values, kind


def everything(group):
    """What a process of the group sees, for the tests below; processes are slow to start."""
    items = group.share(7)
    gathered = group.gather(np.stack([items, items**2], 1), 7).tolist()
    logits, values, kind = known_batch()
    logits.requires_grad_(True)
    rows = group.share(6)
    loss = cell_loss(logits[rows], values[rows], kind[rows], RECIPE, group)
    loss.backward()
    tensors = {"weight": torch.full((2,), float(group.rank))}
    group.same(tensors)
    return gathered, loss.item(), logits.grad.tolist(), tensors["weight"].tolist()


@pytest.fixture(scope="module")
def seen() -> list[tuple]:
    return in_group(3, everything)


def test_what_is_gathered_is_every_item_once_and_in_order(seen):
    assert [gathered for gathered, *_ in seen] == [[[i, i * i] for i in range(7)]] * 3


def test_a_shared_batch_has_the_loss_and_the_gradient_of_one_process(seen):
    logits, values, kind = known_batch()
    logits.requires_grad_(True)
    whole = cell_loss(logits, values, kind, RECIPE, ALONE)
    whole.backward()
    assert np.mean([loss for _, loss, _, _ in seen]) == pytest.approx(whole.item(), rel=1e-6)
    # every logit belongs to one process, and gradients are averaged over the group
    assert np.allclose(np.mean([gradient for _, _, gradient, _ in seen], 0), logits.grad.numpy(), atol=1e-6)


def test_every_process_gets_the_firsts_tensors(seen):
    assert [weight for *_, weight in seen] == [[0.0, 0.0]] * 3


def test_one_process_exchanges_nothing_and_has_everything():
    assert ALONE.share(3).tolist() == [0, 1, 2]
    assert ALONE.sum(1, 2) == [1, 2]
    with joined("cpu", {}) as group:
        assert group is ALONE
