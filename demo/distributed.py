"""One fine-tune in several processes, as `torchrun` starts them; and in one, where nothing is exchanged.

Each process takes every `size`-th run of items, and what is gathered comes back in the order of the items, each of them
once: no figure counts padding. gloo on CPUs, NCCL on GPUs. Where and how processes are started is torchrun's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

Item = TypeVar("Item")


@dataclass(frozen=True)
class Group:
    """rank: this process among `size`, the first is 0. local_rank: among those of its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that talks and writes files."""
        return self.rank == 0

    def share(self, items: Sequence[Item], run: int = 1) -> list[Item]:
        """The items that this process takes: runs of `run` neighbours are dealt out in turn."""
        return [item for number, item in enumerate(items) if number // run % self.size == self.rank]

    def gather(self, values: np.ndarray, total: int, run: int = 1) -> np.ndarray:
        """The values (total, …) of all items, in their order, from each process's (n, …) of its share."""
        if self.size == 1:
            return values
        parts: list[np.ndarray | None] = [None] * self.size
        dist.all_gather_object(parts, values)
        whole = np.empty((total, *values.shape[1:]), values.dtype)
        taken_by = np.arange(total) // run % self.size
        for rank, part in enumerate(parts):
            whole[taken_by == rank] = part
        return whole

    def add_up(self, tensor: torch.Tensor) -> None:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def sum(self, *numbers: float) -> list[float]:
        """Each number summed over the processes."""
        if self.size == 1:
            return list(numbers)
        total = torch.tensor(numbers, dtype=torch.float64, device=self._device())
        self.add_up(total)
        return total.tolist()

    def of_first(self, make: Callable[[], Any]) -> Any:
        """What `make` gives in the first process, for all of them."""
        if self.size == 1:
            return make()
        held = [make() if self.is_first else None]
        dist.broadcast_object_list(held, 0)
        return held[0]

    def same(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.size > 1:
            for tensor in tensors.values():
                held = tensor.to(self._device())
                dist.broadcast(held, 0)
                tensor.copy_(held)

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def one_voice(self) -> Iterator[None]:
        """Inside, what the other processes print goes nowhere; what they raise is still told."""
        if self.is_first:
            yield
            return
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
            yield

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """What is inside runs in one process of a machine before the others, which then find its files there."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def _device(self) -> str:
        return f"cuda:{self.local_rank}" if dist.get_backend() == "nccl" else "cpu"


ALONE = Group()


@contextmanager
def joined(device: str, environment: Mapping[str, str] | None = None) -> Iterator[Group]:
    """The group that torchrun's variables speak of, or one process; left at the end. device: "cuda" takes NCCL."""
    environment = os.environ if environment is None else environment
    size = int(environment.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    group = Group(int(environment["RANK"]), size, int(environment["LOCAL_RANK"]))
    if device == "cuda":
        torch.cuda.set_device(group.local_rank)
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group()
