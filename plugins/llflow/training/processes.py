"""Several processes that train one model, started by `torchrun`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

LETTING_GO = 0.5  # seconds
PATIENCE = timedelta(hours=6)  # others wait while the first validates; torchrun ends what has died


@dataclass(frozen=True)
class Processes:
    """How many train together, and which of them this one is; a single one without `torchrun`."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's samples of a batch of all."""
        return batch.chunk(self.count)[self.rank]

    def mean(self, value: Tensor) -> Tensor:
        """The mean over processes of a number that each has."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def from_first(self, value: float) -> float:
        """The first process's number, for all."""
        if self.count == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared)
        return shared[0]


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Meet the processes that `torchrun` started, and give each its device; alone, do nothing.

    Args:
        device: a CPU, or CUDA, of which the process takes the device of its local rank.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    # After a restart the store still has the addresses of the processes that died.
    store = PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=PATIENCE,
    )
    try:
        yield Processes(rank, count), device
        # Gloo's threads need the interpreter's lock to let go of the tensors they sent last.
        # Whoever tears gloo down from here on waits for these threads, and holds that lock.
        dist.barrier()
        # The barrier's own tensor is let go of after it, while this thread sleeps without the lock.
        time.sleep(LETTING_GO)
    finally:
        dist.destroy_process_group()
