"""Training lowers the loss, survives interruption bit by bit, and refuses to mix runs."""

import json
import math
from dataclasses import replace

import pytest
import torch

from llflow import LLFlow, checkpoint, data
from llflow.model import SIZES
from llflow.training.recipe import Recipe
from llflow.training.train import GIVE_UP_AFTER, Diverged, train

SHORT = {"steps": 8, "batch": 2, "crop": 16, "warmup": 2, "held_out": 0.34, "seed": 3}


@pytest.fixture(autouse=True)
def nano_size(monkeypatch, nano):
    monkeypatch.setitem(SIZES, "tiny", nano.config)


@pytest.fixture
def run(pairs_folder, tmp_path):
    """Train into a folder below tmp_path with the short recipe, changed as asked."""

    def go(
        name="run",
        *,
        clusters=(),
        pairs=None,
        validate_every=4,
        save_every=3,
        start_from=None,
        **changes,
    ):
        pairs = pairs if pairs is not None else data.find_pairs(pairs_folder)
        recipe = Recipe(**SHORT | changes)
        return train(
            recipe,
            *data.hold_out(pairs, clusters, recipe.held_out, recipe.seed),
            tmp_path / name,
            start_from=start_from,
            validate_every=validate_every,
            save_every=save_every,
        )

    return go


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def state(folder):
    return torch.load(folder / "last.pt", weights_only=True)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def interrupt_at(monkeypatch, step):
    read = data.Crops.__getitem__

    def read_or_stop(self, index):
        if index == step:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(data.Crops, "__getitem__", read_or_stop)


def test_the_loss_falls_and_the_files_are_there(run, tmp_path, nano):
    best = run(steps=40, learning_rate=3e-3, validate_every=20)
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "best.safetensors",
        "last.pt",
        "log.jsonl",
        "split.json",
    }
    losses = [record["nll"] for record in records(folder) if "nll" in record]
    assert losses[-1] < losses[0] - 0.5
    scores = [record["psnr"] for record in records(folder) if "psnr" in record]
    assert len(scores) == 2
    assert best == max(scores)
    assert checkpoint.load(folder / "best.safetensors").config == nano.config
    split = data.read_split(folder / "split.json")
    assert len(split["validation"]) == 2
    assert sorted(split["training"] + split["validation"]) == list("012345")


@pytest.mark.parametrize(("step", "synthetic_share"), [(1, 0.0), (4, 0.5), (6, 0.0), (7, 0.0)])
def test_interrupted_and_started_again_it_ends_the_same(
    run, tmp_path, monkeypatch, step, synthetic_share
):
    run("whole", synthetic_share=synthetic_share)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", synthetic_share=synthetic_share)
    run("parts", synthetic_share=synthetic_share)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert same(state(whole), state(parts))
    assert state(whole)["step"] == SHORT["steps"]
    assert (whole / "best.safetensors").read_bytes() == (parts / "best.safetensors").read_bytes()


def test_records_of_steps_taken_again_are_dropped(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 7)  # validated at 4, saved at 3 and 6
        patch.setattr("llflow.training.train._save", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            run()
    torch.manual_seed(0)
    run("other", steps=3)
    (tmp_path / "run" / "last.pt").write_bytes((tmp_path / "other" / "last.pt").read_bytes())
    run()
    assert [record["step"] for record in records(tmp_path / "run")] == [4, 8]


def test_going_on_with_trained_weights(run, tmp_path, nano):
    run("first")
    trained = checkpoint.load(tmp_path / "first" / "best.safetensors")
    run("second", start_from=trained, steps=1, warmup=0, learning_rate=1e-12)
    after = checkpoint.load(tmp_path / "second" / "best.safetensors")
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), parameter)
    assert records(tmp_path / "second")[0]["step"] == 0  # the weights' own score, to be beaten
    other = LLFlow(replace(nano.config, steps=2))
    with pytest.raises(ValueError, match="of another size than tiny"):
        run("third", start_from=other)


def test_the_same_seed_trains_the_same_and_another_does_not(run, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.rand(7)  # what was drawn before doesn't matter
        run(name, seed=seed, steps=2)
    a, b, c = (state(tmp_path / name) for name in "abc")
    assert same(a["model"], b["model"])
    assert not same(a["model"], c["model"])


def test_a_finished_run_has_nothing_to_do(run, tmp_path):
    best = run(steps=2)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    assert run(steps=2) == best
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_a_run_can_be_made_longer_and_is_initialized_once(run, tmp_path, monkeypatch):
    initialize, batches = LLFlow.initialize, []
    monkeypatch.setattr(
        LLFlow, "initialize", lambda *args: batches.append(args[1:]) or initialize(*args)
    )
    run(steps=2)
    run(steps=4)
    assert state(tmp_path / "run")["step"] == 4
    assert [bright.shape for bright, _ in batches] == [(2, 3, 16, 16)]


@pytest.mark.parametrize("changes", [{"learning_rate": 1e-5}, {"seed": 4}, {"held_out": 0.5}])
def test_another_recipe_is_refused_and_nothing_changes(run, tmp_path, changes):
    run(steps=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"that run has {name} = .*, this one {value}"):
        run(steps=2, **changes)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_other_pictures_or_scenes_are_refused(run, tmp_path, pairs_folder):
    run(steps=2)
    before = (tmp_path / "run" / "split.json").read_bytes()
    with pytest.raises(ValueError, match="other pictures or scenes"):
        run(steps=4, pairs=data.find_pairs(pairs_folder)[:-1])
    with pytest.raises(ValueError, match="other pictures or scenes"):
        run(steps=4, clusters=[["0", "1", "2", "3", "4"]])
    assert (tmp_path / "run" / "split.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"text", "truncated", {"step": 1}])
def test_a_damaged_state_is_named(run, tmp_path, content):
    run(steps=2)
    last = tmp_path / "run" / "last.pt"
    if content == "truncated":
        last.write_bytes(last.read_bytes()[:-1000])
    elif isinstance(content, bytes):
        last.write_bytes(content)
    else:
        torch.save(content, last)
    with pytest.raises(ValueError, match=r"last.pt: damaged"):
        run(steps=4)


def test_held_out_pictures_are_not_trained_on(run, monkeypatch, tmp_path):
    trained, watched = [], []
    read, score = data.read_pairs, "llflow.training.train.validation_psnr"
    monkeypatch.setattr(
        data, "read_pairs", lambda files, what: trained.extend(files) or read(files, what)
    )
    monkeypatch.setattr(score, lambda model, files: watched.extend(files) or 20.0)
    run(steps=4)
    split = data.read_split(tmp_path / "run" / "split.json")
    assert {pair.name for pair in trained} == set(split["training"])
    assert {pair.name for pair in watched} <= set(split["validation"])
    assert watched


@pytest.mark.parametrize("held_out", [0.0, 0.99])
def test_both_sides_need_scenes(run, held_out):
    with pytest.raises(data.DataError, match="too few scenes"):
        run(held_out=held_out)


def spoil(monkeypatch, spoiled, how):
    """Make the loss, or only its gradient, not finite at the steps that `spoiled` says."""
    nll, steps = LLFlow.nll, []

    def nll_or_spoil(self, *args):
        steps.append(len(steps))
        value = nll(self, *args)
        if not spoiled(steps[-1]):
            return value
        if how == "loss":
            return value * math.nan
        return value + (value - value.detach()).abs().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(LLFlow, "nll", nll_or_spoil)


@pytest.mark.parametrize("how", ["loss", "gradient"])
def test_steps_that_are_not_finite_are_skipped(run, tmp_path, monkeypatch, how):
    spoil(monkeypatch, lambda step: step < 4, how)
    run(steps=4)
    skipped = state(tmp_path / "run")
    assert skipped["optimizer"]["state"] == {}
    averaged = {k.removeprefix("module."): v for k, v in skipped["averaged"].items()}
    assert averaged.pop("n_averaged") == 0
    assert same(averaged, dict(skipped["model"]))
    run(steps=6)
    after = state(tmp_path / "run")
    assert not same(after["model"], skipped["model"])
    assert all(tensor.isfinite().all() for tensor in after["model"].values())


def test_giving_up_after_too_many_in_a_row(run, tmp_path, monkeypatch):
    assert GIVE_UP_AFTER == 20
    monkeypatch.setattr("llflow.training.train.GIVE_UP_AFTER", 5)
    spoil(monkeypatch, lambda step: step not in (1, 5), "loss")  # 1, 3 and then 5 in a row
    with pytest.raises(Diverged, match="5 steps in a row weren't finite, up to step 10"):
        run(steps=50, validate_every=1000)
    assert state(tmp_path / "run")["step"] == 9
    assert all(tensor.isfinite().all() for tensor in state(tmp_path / "run")["model"].values())


def test_an_overflow_in_validation_does_not_end_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr("llflow.training.train.validation_psnr", lambda *_: -math.inf)
    assert run(steps=4) == -math.inf
    assert state(tmp_path / "run")["step"] == 4


# --- the recipe ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "huge"},
        {"steps": 0},
        {"batch": -1},
        {"crop": 20},
        {"crop": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"clip": 0.0},
        {"warmup": -1},
        {"seed": -1},
        {"reference_prior": 1.0},
        {"synthetic_share": -0.1},
        {"average": 1.0},
        {"held_out": 1.5},
    ],
    ids=str,
)
def test_settings_out_of_range(changes):
    ((name, _),) = changes.items()
    with pytest.raises(ValueError, match=f"recipe: expected .*{name}"):
        Recipe(**changes)


def test_the_learning_rate_rises_then_halves():
    recipe = Recipe(steps=1000, warmup=10, learning_rate=0.8)
    rates = [recipe.learning_rate_at(step) for step in (0, 4, 9, 499, 500, 749, 750, 900, 950, 999)]
    expected = [0.08, 0.4, 0.8, 0.8, 0.4, 0.4, 0.2, 0.1, 0.05, 0.05]
    assert rates == pytest.approx(expected)
    assert Recipe(warmup=0).learning_rate_at(0) == Recipe().learning_rate


@pytest.mark.parametrize("with_weights", [False, True])
def test_interrupted_before_the_first_step_it_goes_on(
    run, tmp_path, nano, monkeypatch, with_weights
):
    options = {"start_from": nano} if with_weights else {}
    run("whole", **options)
    with monkeypatch.context() as patch:
        patch.setattr(
            "llflow.training.train._selector", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run("parts", **options)
    run("parts", **options)
    assert same(state(tmp_path / "whole"), state(tmp_path / "parts"))
