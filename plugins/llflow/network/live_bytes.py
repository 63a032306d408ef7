"""How many bytes of tensors are alive at once while something runs?"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Inside, follows every storage that an operation makes until it is freed.

    What was alive before isn't counted, nor is what an operation needs while it runs.

    >>> with LiveBytes() as live:
    ...     for _ in range(3):
    ...         x = torch.ones(256)
    >>> live.peak
    2048
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and to say so PyTorch would import its compiler, 110 MB."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._before: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            if storage not in self._seen:
                self._before.add(storage)
        result = func(*args, **kwargs)
        for storage in _storages(result):
            if storage not in self._seen and storage not in self._before:
                self._follow(storage)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._seen.add(storage)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def _storages(value: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
