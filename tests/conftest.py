"""Set before anything imports triton: without a GPU its kernels run in the interpreter."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# With it cuBLAS repeats itself, which deterministic algorithms insist on.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from hypothesis import settings

# Sums depend on their number, and what a test starts has to come to the same.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")
