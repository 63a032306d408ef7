"""Training lowers the loss, refuses to mix runs, and saves memory without changing results."""

import math
from dataclasses import replace

import pytest
import torch
from short_runs import SHORT, records, same, state

from flowkit import ConvNet
from llflow import LLFlow, data
from llflow.enhancement import enhance
from llflow.network import checkpoint
from llflow.network.encoder import ResidualDenseBlocks
from llflow.training.recipe import Recipe


def losses(folder):
    return [record["loss"] for record in records(folder) if "loss" in record]


def test_the_loss_falls_and_the_files_are_there(run, tmp_path, nano):
    best = run(steps=40, learning_rate=3e-3, validate_every=20, save_every=40)
    folder = tmp_path / "run"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "best.safetensors",
        "last.pt",
        "log.jsonl",
        "split.json",
        "pictures/000020.png",
        "pictures/000040.png",
    }
    first, last = losses(folder)
    assert last < first - 0.5
    scores = [record["psnr"] for record in records(folder) if "psnr" in record]
    assert len(scores) == 2
    assert best == max(scores)
    assert checkpoint.load(folder / "best.safetensors").config == nano.config
    split = data.read_split(folder / "split.json")
    assert len(split["validation"]) == 2
    assert sorted(split["training"] + split["validation"]) == list("012345")


def test_going_on_with_trained_weights(run, tmp_path, nano, weights):
    run(weights=str(weights), steps=1, warmup=0, learning_rate=1e-12)
    after = checkpoint.load(tmp_path / "run" / "best.safetensors")
    for name, parameter in nano.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), parameter)
    assert records(tmp_path / "run")[0]["step"] == 0  # the weights' own score, to be beaten


def test_weights_that_training_does_not_improve_stay_the_best(run, tmp_path, nano, weights):
    run(weights=str(weights), steps=4, learning_rate=1.0, warmup=0)
    kept = checkpoint.load(tmp_path / "run" / "best.safetensors").state_dict()
    assert same(dict(kept), dict(nano.state_dict()))


def test_weights_of_another_network_are_refused(run, tmp_path, nano):
    other = LLFlow(replace(nano.config, steps=2, scale_floor=0.2))
    path = tmp_path / "other.safetensors"
    checkpoint.save(other, path)
    message = rf"{path}: another network .* which is tiny; .* have steps = 2, scale_floor = 0.2$"
    with pytest.raises(ValueError, match=message):
        run(weights=str(path))
    with pytest.raises(checkpoint.CheckpointError, match="huge: no such file, nor shipped"):
        run(weights="huge")
    assert not (tmp_path / "run").exists()


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
    assert state(tmp_path / "run")["progress"]["step"] == 4
    assert [bright.shape for bright, _ in batches] == [(2, 3, 16, 16)]


@pytest.mark.parametrize("changes", [{"learning_rate": 1e-5}, {"seed": 4}, {"loss": "l1"}], ids=str)
def test_another_recipe_is_refused_and_nothing_changes(run, tmp_path, changes, pairs_folder):
    pairs = data.hold_out(data.find_pairs(pairs_folder), (), 0.34, 3)
    run(steps=2)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    ((name, value),) = changes.items()
    from llflow.training.train import train

    with pytest.raises(ValueError, match=f"that run has {name} = .*, this one {value}"):
        train(Recipe(**SHORT | {"steps": 2} | changes), *pairs, tmp_path / "run")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_other_pictures_or_scenes_are_refused(run, tmp_path, pairs_folder):
    run(steps=2)
    before = (tmp_path / "run" / "split.json").read_bytes()
    with pytest.raises(ValueError, match="other pictures or scenes"):
        run(steps=4, pairs=data.find_pairs(pairs_folder)[:-1])
    with pytest.raises(ValueError, match="other pictures or scenes"):
        run(steps=4, clusters=[["0", "1", "2", "3", "4"]])
    assert (tmp_path / "run" / "split.json").read_bytes() == before


def test_results_without_a_state_are_not_replaced(run, tmp_path):
    run(steps=2)
    (tmp_path / "run" / "last.pt").unlink()
    with pytest.raises(ValueError, match=r"run: has weights but no last\.pt to go on from"):
        run(steps=2)


def test_held_out_pictures_are_not_trained_on(run, monkeypatch, tmp_path):
    trained, watched = [], []
    read, score = data.read_pairs, "llflow.training.run.validation_psnr"
    monkeypatch.setattr(
        data, "read_pairs", lambda files, *rest: trained.extend(files) or read(files, *rest)
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


def test_an_overflow_in_validation_does_not_end_the_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr("llflow.training.run.validation_psnr", lambda *_: -math.inf)
    assert run(steps=4) == -math.inf
    assert state(tmp_path / "run")["progress"]["step"] == 4


# --- other objectives, networks and ways to compute ------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "standard"},
        {"loss": "nll+l1", "precision": "bf16", "keep": "inputs"},
    ],
    ids=lambda changes: ", ".join(changes.values()),
)
def test_the_loss_falls_with(run, tmp_path, changes):
    run(steps=40, learning_rate=3e-3, validate_every=100, save_every=100, **changes)
    first, last = losses(tmp_path / "run")
    assert last < first - 0.2


def test_an_encoder_alone_learns_and_enhances(run, tmp_path):
    run(steps=40, batch=8, encoder_only=True, loss="l1", learning_rate=1e-2, validate_every=20)
    first, last = losses(tmp_path / "run")
    assert last < 0.9 * first
    model = checkpoint.load(tmp_path / "run" / "best.safetensors")
    assert not list(model.flow.parameters())
    dark = torch.rand(3, 19, 22, generator=torch.Generator().manual_seed(0)) / 5
    bright = enhance(model, dark)
    assert bright.shape == dark.shape
    assert bright.mean() > dark.mean() + 0.1


def test_pretraining_switches_the_loss(run, tmp_path, monkeypatch):
    from llflow.training.objective import Objective

    forward, asked = Objective.forward, []
    monkeypatch.setattr(
        Objective,
        "forward",
        lambda self, loss, **batch: asked.append(loss) or forward(self, loss, **batch),
    )
    run(steps=4, loss="l1", pretrain=2)
    assert asked == ["nll", "nll", "l1", "l1"]


def gradients(folder):
    """Adam's first moments after one step: a tenth of its gradient."""
    return [moments["exp_avg"] for moments in state(folder)["optimizer"]["state"].values()]


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"accumulate": 4}, {"keep": "inputs"}, {"keep": "nothing"}],
    ids=str,
)
def test_what_saves_memory_keeps_the_gradients(run, tmp_path, changes):
    for name, options in (("plain", {}), ("saving", changes)):
        run(name, steps=1, batch=4, loss="nll+l1", warmup=0, **options)
    plain, saving = gradients(tmp_path / "plain"), gradients(tmp_path / "saving")
    assert len(plain) == len(saving) > 100
    for a, b in zip(plain, saving, strict=True):
        # float32 sums in another order; "nothing" inverts what it needs, through some 20 layers.
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * a.abs().max().item() + 1e-7)


def test_a_batch_that_parts_do_not_divide_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="1 processes and 3 parts divide, got 2"):
        run(accumulate=3)
    assert not (tmp_path / "run").exists()


def test_compiled_networks_train_the_same(run, tmp_path, monkeypatch):
    """One of each kind, with a backend that traces and differentiates as the usual one does: all
    of them in C++ take minutes, for their many shapes."""
    compiled = {}

    def compile(module):
        if compiled.setdefault(type(module), module) is module:
            module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    for name, options in (("plain", {}), ("compiled", {"compile": True})):
        run(name, steps=2, warmup=0, validate_every=100, **options)
    assert compiled.keys() == {ResidualDenseBlocks, ConvNet}
    plain, traced = (state(tmp_path / name)["model"] for name in ("plain", "compiled"))
    for name, tensor in plain.items():
        # The same operations, perhaps fused: float32 rounding, of weights that moved by 1e-3.
        torch.testing.assert_close(traced[name], tensor, rtol=0, atol=2e-5)
