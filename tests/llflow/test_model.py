"""The network as a whole: sizes, priors, initialisation, what it refuses."""

import math
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flowkit import ActNorm, Coupling, Injector
from llflow import LARGE, SMALL, TINY, Config, LLFlow
from llflow.network.prior import ColorMapPrior, squeeze_map
from llflow.picture import retinex

NANO = Config(features=8, growth=4, blocks=2, taps=(1,), steps=1, hidden=8)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 16, 24, generator=generator), torch.rand(
        2, 6, 16, 24, generator=generator
    )


def multiply_adds(config: Config) -> int:
    """Of enhancing one picture of 400×600."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = LLFlow(config)
        cond = model.condition(torch.zeros(1, 6, 400, 600))
        model.flow.bijection.inverse(ColorMapPrior()(cond).mean, cond)
    return counter.get_total_flops() // 2


def test_tiny_costs_at_most_an_eighth_of_small():
    small = multiply_adds(SMALL)
    assert small == pytest.approx(147.6e9, rel=1e-3)  # as the released network counts
    assert 8 * multiply_adds(TINY) <= small


def test_large_costs_what_the_released_network_does():
    assert multiply_adds(LARGE) == pytest.approx(1459.5e9, rel=1e-3)


def test_likelihood_is_bits_per_pixel_of_the_change_of_variables(pair):
    torch.manual_seed(0)
    model = LLFlow(NANO).double()
    bright, low = (x.double() for x in pair)
    cond = model.condition(low)
    z, logdet = model.flow.bijection(bright, cond)
    for from_reference, center in (
        (False, cond["color_map"]),
        (True, retinex.color_map_by_sum(bright)),
    ):
        squares = (z - squeeze_map(center)).square() + math.log(2 * math.pi)
        nats = -0.5 * squares.sum(dim=(1, 2, 3)) + logdet
        expected = -nats / (16 * 24 * math.log(2))
        torch.testing.assert_close(model.nll(bright, low, from_reference), expected)


def test_initialize_normalises_every_layer(pair):
    torch.manual_seed(0)
    model = LLFlow(NANO)
    bright, low = pair
    model.initialize(bright, low)
    seen = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda m, args, result: seen.append(result[0]))
    model.nll(bright, low)
    assert len(seen) == 3 * (2 + NANO.steps)
    for normalised in seen:
        # float32 statistics of at most 400 values a channel
        mean = normalised.mean(dim=(0, 2, 3))
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4)
        spread = normalised.std(dim=(0, 2, 3), unbiased=False)
        torch.testing.assert_close(spread, torch.ones_like(spread), rtol=1e-3, atol=0)


def test_color_map_of_the_paper_is_three_times_the_released_one():
    model = LLFlow(replace(NANO, color_map="mean"))
    low = torch.rand(1, 6, 16, 16)
    assert model.condition(low)["color_map"].max() > 1
    bright = torch.rand(1, 3, 16, 16)
    assert torch.equal(model.reference_color_map(bright), retinex.color_map_by_mean(bright))


def test_formula_of_the_color_map_reaches_the_encoder(pair):
    by_sum = LLFlow(NANO)
    by_mean = LLFlow(replace(NANO, color_map="mean"))
    by_mean.load_state_dict(by_sum.state_dict())
    _, low = pair
    assert not torch.equal(by_sum.condition(low)["half"], by_mean.condition(low)["half"])


def test_scales_are_bounded_as_configured():
    model = LLFlow(replace(NANO, scale_floor=0.25))
    layers = [m for m in model.modules() if isinstance(m, Coupling | Injector)]
    assert len(layers) == 2 * 3 * NANO.steps
    assert all(layer.how.scale.floor == 0.25 for layer in layers)


def test_folded_model_is_frozen(pair):
    model = LLFlow(NANO)
    _, low = pair
    folded = model.fold()
    before = folded.flow.sample(folded.condition(low), temperature=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert torch.equal(folded.flow.sample(folded.condition(low), temperature=0), before)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_without_a_flow_the_color_map_is_the_picture(pair):
    torch.manual_seed(0)
    model = LLFlow(replace(NANO, steps=0, color_head="full"))
    bright, low = pair
    model.initialize(bright, low)  # nothing to set
    assert not list(model.flow.parameters())
    cond = model.condition(low)
    assert torch.equal(model.typical(cond), cond["color_map"])
    assert torch.equal(model.fold().typical(cond), cond["color_map"])


@pytest.mark.parametrize("color_head", ["half", "full"])
def test_color_map_has_the_resolution_of_its_head(pair, color_head):
    torch.manual_seed(0)
    color_map = LLFlow(replace(NANO, color_head=color_head)).condition(pair[1])["color_map"]
    assert color_map.shape == pair[0].shape
    blocks = color_map.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
    is_constant = torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))
    assert is_constant == (color_head == "half")


def test_the_prior_is_centred_as_configured(pair):
    torch.manual_seed(0)
    for prior, factor in (("color_map", 1), ("standard", 0)):
        model = LLFlow(replace(NANO, prior=prior))
        cond = model.condition(pair[1])
        base = model.flow.base(cond)
        assert torch.equal(base.mean, factor * squeeze_map(cond["color_map"]))
        assert (base.stddev == 1).all()


def test_color_map_stays_in_float32_under_autocast(pair):
    with torch.autocast("cpu", torch.bfloat16):
        assert LLFlow(NANO).condition(pair[1])["color_map"].dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 3, 16, 16),), r"bright pictures of shape \(2, 3, 16, 24\)"),
        ((torch.zeros(2, 3, 16, 24), torch.zeros(3, dtype=torch.bool)), r"bools \(2,\)"),
        ((torch.zeros(2, 3, 16, 24), torch.zeros(2)), r"bools \(2,\), got torch.float32"),
    ],
)
def test_likelihood_refuses_what_does_not_fit(pair, arguments, message):
    bright, *selector = arguments
    with pytest.raises(ValueError, match=message):
        LLFlow(NANO).nll(bright, pair[1], *selector)


def initialized_by(rank: int, ranks: int, path: str) -> None:
    """One of `ranks` processes: its own random weights, its part of the batch."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{path}/store", rank=rank, world_size=ranks
    )
    torch.manual_seed(rank)
    generator = torch.Generator().manual_seed(5)
    bright = torch.rand(2, 3, 16, 16, generator=generator)
    low = torch.rand(2, 6, 16, 16, generator=generator)
    model = LLFlow(NANO)
    model.initialize(bright[rank::ranks], low[rank::ranks])
    torch.save(model.state_dict(), f"{path}/{ranks}-{rank}.pt")
    torch.distributed.destroy_process_group()


def test_initialize_over_processes_is_that_of_the_whole_batch(tmp_path):
    for ranks in (1, 2):
        (tmp_path / "store").unlink(missing_ok=True)
        torch.multiprocessing.spawn(initialized_by, (ranks, str(tmp_path)), nprocs=ranks)
    alone, first, second = (
        torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")
    )
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
        # Statistics are summed in another order: float32 rounding through some 20 layers.
        torch.testing.assert_close(tensor, alone[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["half", "quarter", "eighth"])
def test_every_condition_reaches_the_latent(pair, name):
    """The coupled steps of each level read the condition of their own resolution."""
    torch.manual_seed(0)
    model = LLFlow(NANO)
    bright, low = pair
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.dim() > 2 else None
    cond = model.condition(low)
    z, _ = model.flow.bijection(bright, cond)
    moved, _ = model.flow.bijection(bright, cond | {name: cond[name] + 1})
    assert (z - moved).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features"),
        ({"steps": 1.5}, "steps"),
        ({"steps": -1}, "steps"),
        ({"prior": "normal"}, "prior"),
        ({"color_head": "third"}, "color_head"),
        ({"taps": ()}, "taps"),
        ({"taps": (2,)}, "taps"),
        ({"color_map": "median"}, "color_map"),
        ({"scale_floor": 0.0}, "floor"),
    ],
)
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        LLFlow(replace(NANO, **change))


@pytest.mark.parametrize("shape", [(1, 6, 15, 16), (1, 3, 16, 16), (6, 16, 16)])
def test_wrong_input_is_refused(shape):
    with pytest.raises(ValueError, match="multiples of 8"):
        LLFlow(NANO).condition(torch.zeros(shape))
