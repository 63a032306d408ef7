"""How the benchmarks time, refuse and record.

Ways of doing the same thing are timed in turn, round after round, in one process: whatever slows
the machine down slows all of them, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import ceil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llflow.atomic import write_atomically

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
PACKAGES = ("flowkit", "torch", "triton", "numpy", "pillow", "normflows", "FrEIA", "nflows")
GENERATED = (":(exclude)benchmarks/results", ":(exclude)docs")

Way = Callable[..., object]
Rows = Sequence[Mapping[str, Any]]


class WrongResult(ArithmeticError):
    """What was to be timed doesn't compute what it should."""


@dataclass(frozen=True)
class Spread:
    """The median of the rounds' ratios and its quartiles."""

    median: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lower:.2f} to {self.upper:.2f})"


@dataclass(frozen=True)
class Times:
    """Seconds per call of each way, one entry a round, and the clock that they are from."""

    seconds: dict[str, list[float]]
    clock: str

    def least(self, way: str) -> float:
        return min(self.seconds[way])

    def ratio(self, way: str, to: str) -> Spread:
        """How many times the seconds of `to` the way takes."""
        pairs = zip(self.seconds[way], self.seconds[to], strict=True)
        ratios = [mine / other for mine, other in pairs]
        if len(ratios) == 1:
            return Spread(ratios[0], ratios[0], ratios[0])
        lower, median, upper = statistics.quantiles(ratios, n=4, method="inclusive")
        return Spread(median, lower, upper)

    def fastest(self, among: Sequence[str]) -> str:
        return min(among, key=lambda way: self.ratio(way, among[0]).median)


def take_turns(
    ways: Mapping[str, Way],
    inputs: Sequence[tuple] = ((),),
    *,
    seconds: float = 5.0,
    rounds: int | None = None,
    device: str = "cpu",
    shortest: float = 0.005,
) -> Times:
    """Time every way once a round, each round beginning with another one; at least five rounds.

    Args:
        ways: functions of one entry of `inputs`.
        inputs: what to call them with, in rotation; see `copies`.
        seconds: for how long to go on.
        rounds: how many, whatever they take.
        device: "cpu": processor time on one thread, else wall time. "cuda": CUDA events.
        shortest: seconds; a faster way is called several times a round.
    """
    name, clock = _clock(device)
    calls = {}
    for way, call in ways.items():
        clock(call, inputs, 1)  # compiles, allocates
        calls[way] = max(1, ceil(shortest / max(clock(call, inputs, 1), 1e-9)))
    taken: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    began, done = time.monotonic(), 0
    while done < (rounds or 5) or (rounds is None and time.monotonic() - began < seconds):
        for way in order:
            taken[way].append(clock(ways[way], inputs, calls[way]) / calls[way])
        order.append(order.pop(0))
        done += 1
    return Times(taken, name)


def _clock(device: str) -> tuple[str, Callable[[Way, Sequence[tuple], int], float]]:
    if device == "cuda":
        return "CUDA events", _events
    if torch.get_num_threads() > 1:
        return "wall time", lambda *args: _elapsed(time.perf_counter, *args)
    return "processor time", lambda *args: _elapsed(time.process_time, *args)


def _elapsed(now: Callable[[], float], way: Way, inputs: Sequence[tuple], calls: int) -> float:
    began = now()
    for index in range(calls):
        way(*inputs[index % len(inputs)])
    return now() - began


def _events(way: Way, inputs: Sequence[tuple], calls: int) -> float:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for index in range(calls):
        way(*inputs[index % len(inputs)])
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000


def copies(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors once on a CPU; on a GPU as often as exceeds its L2 cache twofold, so that
    reading them in rotation reads memory."""
    if not tensors[0].is_cuda:
        return [tensors]
    cache = torch.cuda.get_device_properties(tensors[0].device).L2_cache_size
    count = 1 + ceil(2 * cache / sum(tensor.nbytes for tensor in tensors))
    return [tensors, *(tuple(_clone(tensor) for tensor in tensors) for _ in range(count - 1))]


def _clone(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def agree(who: str, result: object, expected: object, tolerance: float) -> None:
    """Refuse what is wrong, so that it isn't timed.

    Args:
        result, expected: a tensor or several, in the same order.
        tolerance: the largest error allowed, in units of the largest expected value or of 1,
            whichever is more.

    Raises:
        WrongResult: another number of tensors, another shape, or a larger error.
    """
    came, wanted = _tensors(result), _tensors(expected)
    shapes = [tuple(t.shape) for t in came], [tuple(t.shape) for t in wanted]
    if shapes[0] != shapes[1]:
        raise WrongResult(f"{who}: expected shapes {shapes[1]}, got {shapes[0]}; not timed")
    for mine, theirs in zip(came, wanted, strict=True):
        mine, theirs = mine.detach().double(), theirs.detach().double()
        error = ((mine - theirs).abs().max() / theirs.abs().max().clamp(min=1)).item()
        if not error <= tolerance:  # NaN isn't
            raise WrongResult(
                f"{who}: expected an error of at most {tolerance:.0e}, got {error:.1e}; not timed"
            )


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    assert isinstance(value, tuple | list)
    return [tensor for item in value for tensor in _tensors(item)]


@dataclass(frozen=True)
class Target:
    """What is aimed at: `value` at most, or at least, in `unit`."""

    what: str
    value: float
    unit: str = ""
    at_least: bool = False

    def judged(self, result: float | None, remark: str = "") -> dict[str, Any]:
        """A row of the table of targets; None: not measured, for the reason in `remark`."""
        met = None
        if result is not None:
            met = result >= self.value if self.at_least else result <= self.value
        return asdict(self) | {"result": result, "met": met, "remark": remark}


def shown_targets(judged: Rows) -> Rows:
    """Judged targets as rows for people."""
    rows = []
    for row in judged:
        sign = "≥" if row["at_least"] else "≤"
        came = "not measured" if row["result"] is None else f"{row['result']:.4g}{row['unit']}"
        rows.append(
            {
                "what": row["what"],
                "target": f"{sign} {row['value']:g}{row['unit']}",
                "result": came,
                "met": {True: "yes", False: "**no**", None: "–"}[row["met"]],
                "remark": row["remark"],
            }
        )
    return rows


def markdown(rows: Rows) -> str:
    """Rows of the same keys as a table."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(Spread(**value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="for each comparison (default %(default)s)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, few rounds: shows that it runs"
    )
    parser.add_argument(
        "--out", type=Path, help="folder for the JSON (default benchmarks/results; quick: none)"
    )
    return parser


def begin(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, and set threads and seed."""
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("expected a GPU for --device cuda, PyTorch finds none")
    if args.quick:
        args.seconds = 0.0
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    return args


def keep_freed_memory() -> None:
    """Tell glibc not to give freed memory back: it would be mapped and zeroed again at the next
    call, or not, as the allocator's state has it, and page faults would be most of what is timed.
    M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
    if platform.libc_ver()[0] == "glibc":
        for parameter in (-1, -3):
            ctypes.CDLL(None).mallopt(parameter, 1 << 30)


def record(
    name: str,
    args: argparse.Namespace,
    *,
    doc: str,
    tables: Mapping[str, Rows],
    targets: Rows = (),
    implementation: Mapping[str, Any] | None = None,
) -> None:
    """Print tables and targets, and write NAME.json, NAME_gpu.json for CUDA, with all that says
    where they are from.

    Args:
        doc: the benchmark's docstring: the question that the tables answer, the command, the rest.
        tables: rows by title; values are text, numbers or spreads.
        targets: from `Target.judged`.
        implementation: the choice by op, see `flowkit.ops.implementation`.
    """
    question, _, *description = doc.strip().split("\n\n")
    content = {
        "benchmark": name,
        "question": question,
        "description": "\n\n".join(description),
        "command": _command(),
        **provenance(),
        "settings": {key: value for key, value in vars(args).items() if key != "out"},
        "clock": _clock(args.device)[0],
        "implementation": {op: vars(choice) for op, choice in (implementation or {}).items()},
        "tables": {title: [_plain(row) for row in rows] for title, rows in tables.items()},
        "targets": list(targets),
    }
    for op, choice in content["implementation"].items():
        print(f"{op}: {choice['name']} ({choice['reason']})")
    for title, rows in content["tables"].items():
        print(f"\n{title}\n\n{markdown(rows)}")
    if targets:
        print(f"\n{markdown(shown_targets(targets))}")
    if args.out or not args.quick:
        suffix = "_gpu" if args.device == "cuda" else ""
        write((args.out or RESULTS) / f"{name}{suffix}.json", content)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: asdict(v) if isinstance(v, Spread) else v for k, v in row.items()}


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all. Where a file lies is nobody else's concern: of paths in it
    the last part is kept."""
    text = json.dumps(
        content, indent=1, ensure_ascii=False, allow_nan=False, default=lambda path: path.name
    )
    write_atomically(path, lambda file: file.write(f"{text}\n".encode()))


def provenance() -> dict[str, Any]:
    """Machine, versions, commit and date."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": commit(),
    }


def _machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the code, with "-dirty" where files differ from it (results and docs, which
    benchmarks write themselves, don't count); None outside git."""

    def git(*command: str) -> str:
        done = subprocess.run(
            ["git", *command], cwd=REPOSITORY, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--", ".", *GENERATED) else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _command() -> str:
    script = Path(sys.argv[0])
    if script.parent.name != "benchmarks":  # called by a test
        return ""
    options = [Path(option).name if os.sep in option else option for option in sys.argv[1:]]
    if "--out" in options:
        at = options.index("--out")
        del options[at : at + 2]
    return " ".join(["python", f"benchmarks/{script.name}", *options])
