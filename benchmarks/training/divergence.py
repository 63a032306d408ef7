"""Does training survive what makes the released network diverge?

`small` as released, with affine scales down to 1e-4, trained without warm-up at the paper's 5e-4
and at more: by a plain loop that takes every step as it comes, and by `llflow train` with its
guards: gradient clipping, skipping of steps that aren't finite, and going back after five of them.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import record
import torch
from tqdm import tqdm

from llflow import LLFlow, data
from llflow.training.guard import Diverged
from llflow.training.objective import Objective
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule
from llflow.training.train import train

EVERY = 20  # steps, as in log.jsonl


def plain(recipe: Recipe, files: list[data.PairFiles]) -> list[dict]:
    """Adam and nothing else, on the same samples from the same weights."""
    torch.manual_seed(recipe.seed)
    model = LLFlow(recipe.config())
    pairs = data.read_pairs(files, "pairs")
    crops = data.Crops(pairs, size=recipe.crop, batch=recipe.batch, seed=recipe.seed)
    model.initialize(crops[0].bright, crops[0].low)
    objective, schedule = Objective(model), Schedule(recipe, recipe.steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    records = []
    for step in tqdm(range(recipe.steps), desc=f"plain, {recipe.learning_rate:g}", unit="step"):
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate(step)
        optimizer.zero_grad()
        loss = objective("nll", crops[step].bright, crops[step].low)["loss"]
        loss.backward()
        norm = torch.nn.utils.get_total_norm(p.grad for p in model.parameters())
        optimizer.step()
        if (step + 1) % EVERY == 0:
            numbers = {"nll": loss.item(), "gradient": norm.item()}
            finite = {k: v if math.isfinite(v) else None for k, v in numbers.items()}
            records.append({"step": step + 1} | finite)
    return records


def guarded(recipe: Recipe, files: list[data.PairFiles], watched: list[data.PairFiles]) -> list:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        try:
            train(recipe, files, watched, out, validate_every=recipe.steps, save_every=EVERY)
        except Diverged as error:
            print(error)
        return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def shown(records: dict[int, dict], step: int) -> str:
    values = [records.get(step, {}).get(name) for name in ("nll", "gradient")]
    return " | ".join("not finite" if value is None else f"{value:.4g}" for value in values)


def main() -> None:
    parser = record.arguments(
        __doc__.partition("\n")[0],
        "python benchmarks/training/divergence.py --data LOL/our485 --learning-rates 5e-4 1e-2",
    )
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[5e-4, 1e-2])
    parser.add_argument("--steps", type=int, default=140, help="(default 140)")
    parser.add_argument("--crop", type=int, default=32, help="(default 32; the paper: 160)")
    parser.add_argument("--batch", type=int, default=4, help="(default 4; the paper: 16)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    *files, watched = record.find(args.data, 41)
    settings = {"steps": args.steps, "batch": args.batch, "crop": args.crop, "seed": args.seed}
    results = []
    for rate in args.learning_rates:
        recipe = Recipe(size="small", warmup=0, learning_rate=rate, reference_prior=0.0, **settings)
        assert recipe.config().scale_floor == 1e-4
        alone, survived = plain(recipe, files), guarded(recipe, files, [watched])
        by_step = [{r["step"]: r for r in log if "nll" in r} for log in (alone, survived)]
        print(f"\n| {rate:g}, step | plain: nll | gradient | guarded: nll | gradient |")
        print("|---|---|---|---|---|")
        for step in range(EVERY, args.steps + 1, EVERY):
            print(f"| {step} | {' | '.join(shown(records, step) for records in by_step)} |")
        events = [r["event"] for r in survived if "event" in r]
        print(f"\nguarded, events: {'; '.join(events) or 'none'}", flush=True)
        results.append({"learning_rate": rate, "plain": alone, "guarded": survived})
    record.write("training_divergence", {"settings": settings, "runs": results})


if __name__ == "__main__":
    main()
