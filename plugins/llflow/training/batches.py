"""The samples of every step, decided by seed and step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from llflow import data
from llflow.network.model import LeanConfig
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule, Stage

Batch = dict[str, Tensor]


class Batches:
    """What `Objective` takes, by name, for each step.

    Args:
        schedule: its stages say how far pictures are averaged down, and how large crops are.
        files: the pairs.
        photographs: a folder of bright pictures without dark partners, for the recipe's share of
            synthetic samples.

    Raises:
        DataError: pictures are smaller than a crop.
    """

    def __init__(
        self, schedule: Schedule, files: Sequence[data.PairFiles], photographs: Path | None
    ) -> None:
        self.recipe = recipe = schedule.recipe
        stages = [stage for stage, _ in schedule.stages()]
        pairs, synthetic = data.read_pairs(files, "training pairs"), []
        if recipe.synthetic_share:
            synthesis = data.Synthesis(recipe.skies, recipe.unchanged)
            synthetic = data.synthetic_pairs(files, recipe.seed, synthesis)
            if photographs is not None:
                side = max(stage.factor * stage.crop for stage in stages)
                synthetic += data.synthetic_from(photographs, recipe.seed, side, synthesis)
        self.variety = data.Variety(
            permuted=recipe.permuted,
            gammas=recipe.gammas,
            gains=recipe.gains,
            illumination_error=recipe.illumination_error,
            predicted=recipe.illumination_predicted,
            jitter=recipe.jitter,
        )
        self.crops = {stage: self._crops(pairs, synthetic, stage) for stage in stages}
        self.is_lit = isinstance(recipe.config(), LeanConfig)
        self.wholes = None
        if self.is_lit and recipe.thumbnails:
            self.wholes = data.Wholes(
                pairs,
                synthetic,
                synthetic_share=recipe.synthetic_share,
                batch=recipe.thumbnails,
                seed=recipe.seed,
                variety=self.variety,
            )

    def _crops(
        self, pairs: Sequence[data.Pair], synthetic: Sequence[data.Pair], stage: Stage
    ) -> data.Crops:
        real, made = (
            [data.averaged_down(pair, stage.factor) for pair in some] for some in (pairs, synthetic)
        )
        try:
            return data.Crops(
                real,
                made,
                synthetic_share=self.recipe.synthetic_share,
                size=stage.crop,
                batch=stage.batch,
                seed=self.recipe.seed,
                variety=self.variety,
            )
        except data.DataError as error:
            if stage.factor == 1:
                raise
            raise data.DataError(f"averaged down by {stage.factor}: {error}") from error

    def at(self, schedule: Schedule, step: int) -> Batch:
        """The batch of a step, of the stage that the schedule puts it in."""
        stage = schedule.stage(step)
        batch = self.crops[stage][step]._asdict()
        if not self.recipe.jitter:
            del batch["noisy"]
        if not self.is_lit:
            del batch["illumination"], batch["log_exposure"]
        if not self.recipe.illumination_predicted:
            del batch["whole"], batch["place"], batch["is_predicted"]
        if self.wholes is not None:
            batch |= self.wholes[step]._asdict()
        return batch | {"from_reference": torch.from_numpy(_selector(self.recipe, stage, step))}

    def ahead(self, schedule: Schedule, steps: range) -> Iterator[Batch]:
        """The batches of these steps, each cut while the one before is computed on."""
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self.at, schedule, steps.start) if steps else None
            for step in steps:
                assert coming is not None
                batch = coming.result()
                if step + 1 in steps:
                    coming = thread.submit(self.at, schedule, step + 1)
                yield batch


def _selector(recipe: Recipe, stage: Stage, step: int) -> np.ndarray:
    """Which samples take the reference's prior (eq. 9), decided by seed and step alone."""
    rng = np.random.default_rng([recipe.seed, step, stage.batch])  # the samples have those below
    return rng.random(stage.batch) < recipe.reference_prior
