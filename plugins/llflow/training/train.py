"""Training: one readable loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from llflow.data import PairFiles
from llflow.training.guard import Guard
from llflow.training.interruption import noticed
from llflow.training.processes import joined
from llflow.training.recipe import Recipe
from llflow.training.run import Run


def train(
    recipe: Recipe,
    training: Sequence[PairFiles],
    validation: Sequence[PairFiles] | None,
    out: Path,
    *,
    photographs: Path | None = None,
    device: torch.device | str = "cpu",
    validate_every: int = 500,
    validation_pictures: int = 16,
    save_every: int = 100,
    tensorboard: bool = False,
) -> float | None:
    """Train, or go on where the run in `out` stopped.

    `out` receives best.safetensors (averaged weights, best validation PSNR), last.pt (everything to
    go on from), log.jsonl, split.json, pictures/ (validation scenes as they improve), and
    tensorboard/ if asked for. Without validation, the result is last.safetensors in place of
    best.safetensors: the averaged weights of the last step. A run that was killed and started
    again ends with the same weights, bit by bit, on the same machine with the same number of
    threads and processes. With a budget of hours that holds from the step on at which the number
    of steps was fixed.

    A step whose loss or gradient isn't finite, or whose gradient is as wild as the recipe has it,
    is skipped. After five in a row, weights and optimiser go back to what they were at the last
    multiple of `save_every` steps from which a step was taken, and the learning rate is halved from
    there.

    A single process that is interrupted (Ctrl-C) finishes its step and saves before it ends; a
    second time it ends at once, and goes on from the last save.

    Under `torchrun` every process calls this with the same arguments and takes its part of each
    batch.

    Args:
        recipe: the settings; on going on, `steps` may differ, the rest has to be the same.
        training: the pairs to learn from.
        validation: pairs of other scenes, see `data.hold_out`; None to validate nothing, so that
            every pair may be learnt from.
        out: the run's folder.
        photographs: a folder of bright ones without dark partners, which join the pairs in the
            recipe's share of synthetic samples. On going on, the same has to be given again.
        device: where to compute.
        validate_every: steps between validations; without any, between writes of the weights.
        validation_pictures: how many of the held-out pictures each of them scores, evenly spread.
        save_every: steps between saves of last.pt.
        tensorboard: write events for TensorBoard too.

    Returns:
        The best validation PSNR in dB; None without validation.

    Raises:
        KeyboardInterrupt: it was interrupted.
        Diverged: going back didn't help, five times; last.pt is from before.
        DataError: there are no pairs for training or for validation, or a crop is too large.
        CheckpointError: the recipe's weights can't be read.
        ValueError: photographs without a share of synthetic samples; `out` holds a run of another
            recipe or other pictures, or only its results; the recipe's weights are of another
            network; or the batch can't be divided.
    """
    with (
        joined(torch.device(device)) as (processes, device),
        noticed(alone=processes.count == 1) as interruption,
    ):
        run = Run(
            recipe,
            training,
            validation,
            out,
            processes=processes,
            interruption=interruption,
            device=device,
            photographs=photographs,
            watched=validation_pictures,
            validate_every=validate_every,
            save_every=save_every,
            tensorboard=tensorboard,
        )
        state, guard = run.state, Guard(run.state, save_every, run.tell)
        for parts in run.batches():
            loss = run.schedule.loss(state.step)
            rate = run.schedule.learning_rate(state.step) * state.caution
            terms: dict[str, Tensor] = {}
            state.optimizer.zero_grad()
            run.seed_step()
            for index, part in enumerate(parts, 1):
                with run.synchronized(index == len(parts)):
                    with run.autocast():
                        found = run.objective(loss, **part)
                    guard.backward(found["loss"] / len(parts))
                for name, term in found.items():
                    terms[name] = terms.get(name, 0) + term.detach().mean() / len(parts)
            terms = {name: processes.mean(term) for name, term in terms.items()}
            norm = nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip)
            if guard.allows(terms["loss"], norm):
                for group in state.optimizer.param_groups:
                    group["lr"] = rate * group["share"]
                state.optimizer.step()
                state.averaged.update_parameters(state.model)
            state.step += 1
            run.record(terms, norm)
            if state.step % validate_every == 0 or run.is_over:
                run.validate()
            if state.step % save_every == 0 or run.is_over or run.is_overdue:
                run.save()
        return None if validation is None else processes.from_first(state.best)
