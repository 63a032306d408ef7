"""Flows of several libraries, trained in turn on the same batches, and what they are worth on data
that none of them saw."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from scipy.stats import t
from torch import Tensor, nn
from tqdm import tqdm


@dataclass(frozen=True)
class Trained:
    """What a library's flow is asked for.

    Attributes:
        module: holds the parameters.
        score: of a batch, in nats for each of its samples; training makes the mean larger.
        sample: (count, ...) drawn, for the picture.
        first: what has to happen with the first batch, such as data-dependent initialisation.
    """

    module: nn.Module
    score: Callable[..., Tensor]
    sample: Callable[[int], Tensor]
    first: Callable[..., object] = lambda *batch: None


def compare(
    description: str,
    builds: Mapping[str, Callable[[], Trained]],
    draw: Callable[[int], tuple],
    show: Callable[[plt.Axes, Tensor], object],
    *,
    steps: int,
    batch: int,
    rate: float,
    clip: float = 50.0,
) -> None:
    """Train every flow of `builds` with Adam on batches draw(batch), one step each in turn, and
    print the mean score of draw(4096) over seeds, with the processor time of training.

    The interval is Student's, of 95 %, over the seeds; they draw the data and the first weights.
    """
    options = _options(description, steps)
    scores: dict[str, list[float]] = {name: [] for name in builds}
    times = dict.fromkeys(builds, 0.0)
    flows: dict[str, Trained] = {}
    for seed in range(options.seeds):
        flows = _first(builds, draw(batch), seed)
        optimizers = {n: torch.optim.Adam(f.module.parameters(), rate) for n, f in flows.items()}
        schedules = [
            torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, max(options.steps, 2))
            for optimizer in optimizers.values()
        ]
        for _ in tqdm(range(options.steps), f"seed {seed}", leave=False):
            data = draw(batch)
            for (name, flow), schedule in zip(flows.items(), schedules, strict=True):
                times[name] += _step(flow, optimizers[name], data, clip)
                schedule.step()
        test = draw(4096)
        for name, flow in flows.items():
            with torch.no_grad():
                scores[name].append(flow.score(*test).mean().item())
    _tell(flows, scores, times, options)
    _picture(flows, draw, show, options.out)


def _options(description: str, steps: int) -> Namespace:
    name = description.split("python ")[1].split()[0]
    parser = ArgumentParser(description=description.split("\n")[0], epilog=f"python {name}")
    parser.add_argument("--out", default=f"{Path(name).stem}.png", help="where the picture goes")
    parser.add_argument("--steps", type=int, default=steps, help="of training [%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, help="how many trainings [%(default)s]")
    parser.add_argument("--json", type=Path, help="where the figures go too")
    options = parser.parse_args()
    if min(options.steps, options.seeds) < 1:
        parser.error(f"expected steps and seeds >= 1, got {options.steps} and {options.seeds}")
    formats = plt.gcf().canvas.get_supported_filetypes()
    if Path(options.out).suffix.removeprefix(".") not in formats:
        parser.error(f"expected --out to end in one of {', '.join(formats)}, got {options.out}")
    for path in filter(None, (Path(options.out), options.json)):
        if not path.parent.is_dir():
            parser.error(f"expected a folder for {path}, found none")
    return options


def _first(
    builds: Mapping[str, Callable[[], Trained]], batch: tuple, seed: int
) -> dict[str, Trained]:
    flows = {}
    for name, build in builds.items():
        torch.manual_seed(seed)
        flows[name] = build()
        flows[name].first(*batch)
    torch.manual_seed(seed)
    return flows


def _step(flow: Trained, optimizer: torch.optim.Optimizer, data: tuple, clip: float) -> float:
    """One step; its processor time in seconds."""
    began = time.process_time()
    optimizer.zero_grad()
    (-flow.score(*data).mean()).backward()
    nn.utils.clip_grad_norm_(flow.module.parameters(), clip)
    optimizer.step()
    return time.process_time() - began


def _tell(
    flows: Mapping[str, Trained],
    scores: Mapping[str, list[float]],
    times: Mapping[str, float],
    options: Namespace,
) -> None:
    peers = [seconds for name, seconds in times.items() if name != "flowkit"]
    fastest = min(peers) or 1.0
    print("| flow | parameters | test score, nats | training time, of the fastest peer's |")
    print("|---|---|---|---|")
    found = {}
    for name, flow in flows.items():
        values = torch.tensor(scores[name], dtype=torch.float64)
        reach = 0.0
        if len(values) > 1:
            reach = t.ppf(0.975, len(values) - 1) * values.std().item() / len(values) ** 0.5
        count = sum(parameter.numel() for parameter in flow.module.parameters())
        mean, ratio = values.mean().item(), times[name] / fastest
        print(f"| {name} | {count:,} | {mean:.3f} ± {reach:.3f} | {ratio:.2f} |")
        found[name] = {"scores": scores[name], "parameters": count, "time": ratio}
    if options.json:
        options.json.write_text(json.dumps({"steps": options.steps, "flows": found}, indent=1))


def _picture(flows: Mapping[str, Trained], draw: Callable, show: Callable, out: str) -> None:
    figure, axes = plt.subplots(
        1, 1 + len(flows), figsize=(3 * (1 + len(flows)), 3), layout="constrained", squeeze=False
    )
    shown = {"data": draw(2000)[0]}
    for name, flow in flows.items():
        with torch.no_grad():
            shown[name] = flow.sample(2000)
    for axis, (title, points) in zip(axes[0], shown.items(), strict=True):
        show(axis, points.detach())
        axis.set_title(title)
    figure.savefig(out, dpi=80)
