"""A network with an illumination branch in training: told the light, learning it beside, exact."""

import copy
import math

import pytest
import torch
from short_runs import LEAN_NANO, SHORT, assert_same_run, events, interrupt_at, records, state

from flowkit import ActNorm, ConvNet, InvertibleLinear
from llflow import LLFlow, data
from llflow.enhancement import enhance
from llflow.network import checkpoint
from llflow.network.model import SIZES
from llflow.training.batches import Batches
from llflow.training.initialization import initialize_from, temper
from llflow.training.parameters import parameter_groups
from llflow.training.recipe import Recipe
from llflow.training.schedule import Schedule

LEAN = {
    "sizes": ((2, 0.5, 16, 4), (1, 0.5, 16, 2)),
    "annealing": "cosine",
    "loss": "nll+l1",
    "l1_weight": 40.0,
    "exposure_free": 0.5,
    "structure": 20.0,
    "colors": 15.0,
    "saturation": 2.0,
    "map_colors": 5.0,
    "nll_share": 0.5,
    "synthetic_share": 0.3,
    "skies": 0.4,
    "unchanged": 0.3,
    "permuted": 0.1,
    "gammas": 0.2,
    "gains": 0.3,
    "jitter": 2.0,
    "nets_rate": 0.5,
    "scales_rate": 0.15,
    "illumination_predicted": 0.5,
    "thumbnails": 2,
    "wildest": 4.0,
}


@pytest.fixture(autouse=True)
def lean_size(monkeypatch, run):
    """The recipes' tiny; after `run` has put another in its place."""
    monkeypatch.setitem(SIZES, "tiny", LEAN_NANO)


def test_it_learns_pictures_and_illumination(run, tmp_path):
    best = run(steps=80, validate_every=40, save_every=100, learning_rate=3e-3, **LEAN)
    assert math.isfinite(best)
    logged = [record for record in records(tmp_path / "run") if "loss" in record]
    terms = {"nll", "l1", "exposure_free", "structure", "colors", "saturation", "map_colors"}
    assert terms | {"illumination"} <= logged[0].keys()
    assert logged[-1]["loss"] < logged[0]["loss"] - 1
    model = checkpoint.load(tmp_path / "run" / "best.safetensors")
    assert model.config == LEAN_NANO
    assert enhance(model, torch.rand(3, 20, 27) / 5).isfinite().all()


@pytest.mark.parametrize("step", [1, 5])
def test_it_goes_on_exactly(run, tmp_path, monkeypatch, step):
    """Also what dropout in the branch draws."""
    run("whole", **LEAN)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **LEAN)
    torch.rand(7)
    run("parts", **LEAN)
    assert state(tmp_path / "whole")["progress"]["step"] == 8
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_fine_tuning_starts_from_its_weights(run, tmp_path):
    run("first", steps=2, **LEAN)
    weights = tmp_path / "first" / "best.safetensors"
    options = {"weights": str(weights), "loss": "nll+l1", "learning_rate": 1e-12, "warmup": 0}
    run("tuned", steps=1, **options)
    before, after = (
        checkpoint.load(tmp_path / name / "best.safetensors") for name in ("first", "tuned")
    )
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), parameter)


def test_without_thumbnails_the_branch_stays(run, tmp_path):
    run(steps=2, warmup=0, **LEAN | {"thumbnails": 0})
    torch.manual_seed(SHORT["seed"])
    fresh = LLFlow(LEAN_NANO)
    trained = state(tmp_path / "run")["model"]
    for name, parameter in fresh.named_parameters():
        assert torch.equal(trained[name], parameter) == name.startswith("illumination."), name


def test_thumbnails_that_parts_do_not_divide_are_refused(run):
    with pytest.raises(ValueError, match=r"of thumbnails that 1 processes and 2 parts .* 3$"):
        run(accumulate=2, thumbnails=3)


def test_batches_name_what_the_objective_takes(pairs_folder):
    schedule = Schedule(Recipe(**SHORT | LEAN), 8)
    batch = Batches(schedule, data.find_pairs(pairs_folder), None).at(schedule, 0)
    assert {name: tuple(value.shape) for name, value in batch.items()} | {
        "thumbnails": (),
        "luminance": (),
    } == {
        "bright": (4, 3, 16, 16),
        "low": (4, 6, 16, 16),
        "noisy": (4, 3, 16, 16),
        "illumination": (4, 1, 16, 16),
        "log_exposure": (4,),
        "whole": (4, 6, 64, 96),
        "place": (4, 2, 3),
        "is_predicted": (4,),
        "from_reference": (4,),
        "thumbnails": (),
        "luminance": (),
    }
    assert batch["thumbnails"].shape[:2] == (2, 6)
    assert batch["luminance"].shape[:2] == (2, 1)


# --- first weights, and how fast they move ---------------------------------------------------


def test_first_weights_know_the_exposure(pairs_folder):
    """The flow's first ActNorm sees the picture at exposure 1, not at the dark one's."""
    schedule = Schedule(Recipe(**SHORT | LEAN), 8)
    batch = Batches(schedule, data.find_pairs(pairs_folder), None).at(schedule, 0)
    model = LLFlow(LEAN_NANO)
    initialize_from(model, batch)
    exposed = batch["noisy"] / batch["log_exposure"].exp()[:, None, None, None]
    first = next(module for module in model.flow.modules() if isinstance(module, ActNorm))
    scale = first.log_scale.exp().mean()
    assert scale.item() == pytest.approx(1 / exposed.std().item(), rel=0.3)
    norms = [net.first_norm for net in model.flow.modules() if isinstance(net, ConvNet)]
    norms += [net.second_norm for net in model.flow.modules() if isinstance(net, ConvNet)]
    assert all(norm.log_scale.max() <= 1 + 1e-6 for norm in norms)


@pytest.mark.parametrize("cond_channels", [0, 3])
def test_tempering_keeps_what_a_net_computes(cond_channels):
    torch.manual_seed(0)
    net = ConvNet(2, 4, cond_channels=cond_channels, hidden=8).double()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (2 if name.endswith("log_scale") else 1))
        net.last.log_scale.zero_()
    tempered = copy.deepcopy(net)
    temper(tempered)
    x = torch.randn(2, 2, 5, 5).double()
    cond = (torch.randn(2, 3, 5, 5).double(),) if cond_channels else ()
    torch.testing.assert_close(tempered(x, *cond), net(x, *cond))
    assert net.first_norm.log_scale.max() > 1
    assert tempered.first_norm.log_scale.max() <= 1


def test_groups_and_their_rates():
    model = LLFlow(LEAN_NANO)
    recipe = Recipe(nets_rate=0.5, scales_rate=0.25)
    groups = {group["share"]: set(group["params"]) for group in parameter_groups(model, recipe)}
    assert groups.keys() == {1.0, 0.5, 0.25}
    assert sum(map(len, groups.values())) == len(list(model.parameters()))
    assert groups[1.0] == {*model.encoder.parameters(), *model.illumination.parameters()}
    for module in model.flow.modules():
        if isinstance(module, ActNorm | InvertibleLinear):
            assert groups[0.25] >= set(module.parameters())
        if isinstance(module, ConvNet):
            assert module.first.weight in groups[0.5]
            assert module.first_norm.bias in groups[0.5]
            assert module.last.log_scale in groups[0.25]
    (group,) = parameter_groups(model, Recipe())
    assert (group["share"], len(group["params"])) == (1.0, len(list(model.parameters())))


def test_rates_are_kept_when_a_run_goes_on(run, tmp_path):
    run(steps=1, warmup=0, **LEAN)
    run(steps=2, warmup=0, **LEAN)
    groups = state(tmp_path / "run")["optimizer"]["param_groups"]
    rates = {group["share"]: group["lr"] for group in groups}
    assert rates.keys() == {1.0, 0.5, 0.15}
    assert rates[0.5] == pytest.approx(rates[1.0] / 2)


# --- wild steps ------------------------------------------------------------------------------


def grow(monkeypatch, steps, factor):
    """The loss and its gradient are so many times as large at these steps."""
    from llflow.training.guard import Guard

    backward, seen = Guard.backward, []

    def larger(self, loss):
        seen.append(self.state.step)
        backward(self, loss * (factor if self.state.step in steps else 1))

    monkeypatch.setattr(Guard, "backward", larger)
    monkeypatch.setattr("llflow.training.guard.USUAL_AFTER", 4)


def test_wild_steps_are_skipped_and_going_on_is_exact(run, tmp_path, monkeypatch):
    settings = {"steps": 12, "warmup": 0, "wildest": 30.0, "clip": math.inf, "save_every": 3}
    grow(monkeypatch, {2, 6, 7}, 1000.0)
    run("whole", **settings)
    told = [event for event in events(tmp_path / "whole") if "skipped" in event]
    assert [event.split(":")[0] for event in told] == ["step 7 skipped", "step 8 skipped"]
    assert all("usually" in event for event in told)
    with monkeypatch.context() as patch:
        interrupt_at(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            run("parts", **settings)
    run("parts", **settings)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_five_wild_steps_lead_back(run, tmp_path, monkeypatch):
    grow(monkeypatch, range(6, 11), 1000.0)
    run(steps=12, warmup=0, wildest=30.0, clip=math.inf, save_every=3)
    assert any("were skipped: back to the weights of step 3" in e for e in events(tmp_path / "run"))
    assert state(tmp_path / "run")["progress"]["caution"] == 0.5


def test_the_learning_rate_recovers(run, tmp_path, monkeypatch):
    monkeypatch.setattr("llflow.training.guard.RECOVERS_AFTER", 3)
    grow(monkeypatch, range(6, 11), 1000.0)
    run(steps=20, warmup=0, wildest=30.0, clip=math.inf, save_every=3, validate_every=100)
    progress = state(tmp_path / "run")["progress"]
    assert (progress["caution"], progress["went_back_at"]) == (1.0, 13)


def test_by_itself_nothing_is_wild(run, tmp_path, monkeypatch):
    grow(monkeypatch, {6}, 1000.0)
    run(steps=8, warmup=0)
    assert events(tmp_path / "run") == []
