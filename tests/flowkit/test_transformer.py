"""Transformer nets and flows: causality, steps and rounds, any size, guidance, denoising."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowkit import (
    MLP,
    CausalTransformer,
    Checkerboard,
    Coupling,
    Example,
    Flow,
    MaskedCoupling,
    Reversible,
    TokenAutoregressive,
    Transformer,
    denoise,
    dropped,
    flows,
    guided,
)
from flowkit.nets.rotary import coordinates, turned
from flowkit.testing import (
    check_condition,
    check_empty_batch,
    check_extremes,
    check_fold,
    check_given,
    check_independent_samples,
    check_logdet,
    check_low_precision,
    check_reuse,
    check_reversible,
    check_round_trip,
)

SMALL = {"hidden": 8, "depth": 1, "heads": 2}
COND = {"low": (2, 3, 5), "label": (3,)}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def awake(module, seed=0):
    """With random numbers where training would have moved the zeros."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in module.parameters():
            parameter.data += 0.3 / max(parameter.shape[-1], 1) ** 0.5 * torch.randn_like(parameter)
    return module.double()


def conditions(batch):
    return {"low": draw(batch, 2, 3, 5, seed=7), "label": draw(batch, 3, seed=8)}


def jet(shape=(1, 4, 6), cond=COND):
    return awake(flows.jet(shape, cond, steps=5, patch=2, **SMALL))


def tarflow(shape=(1, 4, 6), cond=COND, **options):
    return awake(flows.tarflow(shape, cond, steps=2, patch=2, **SMALL, **options))


def assert_jacobian(flow, x, cond):
    z, logdet = flow.encode(x, cond)
    for function, value, came in (
        (flow.encode, x, logdet),
        (flow.decode, z.detach(), flow.decode(z, cond)[1]),
    ):
        with sdpa_kernel(SDPBackend.MATH):  # the one that knows many gradients at once
            jacobian = torch.autograd.functional.jacobian(
                lambda v, function=function: function(v, cond)[0].flatten(), value, vectorize=True
            )
        expected = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel()))[1]
        assert (came[0] - expected).abs() < 1e-9 * max(1, expected.abs().item())


@pytest.mark.parametrize("make", [jet, tarflow])
def test_one_model_is_exact_at_any_size(make):
    flow = Flow(make().bijection)
    cond = conditions(1)
    for places in ((4, 6), (10, 2)):
        x = draw(1, 1, *places)
        assert_jacobian(flow, x, cond)
        z, logdet = flow.encode(x, cond)
        back, negative = flow.decode(z, cond)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
        torch.testing.assert_close(logdet, -negative, rtol=0, atol=1e-12)
        given = flow.given(cond, shape=(1, *places))
        torch.testing.assert_close(given.log_prob(x), flow.log_prob(x, cond), rtol=0, atol=1e-12)
        with torch.no_grad():
            assert flow.sample(cond, num_samples=2, shape=(1, *places)).shape == (2, 1, 1, *places)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["jet", "tarflow"])
def test_one_model_is_exact_at_32_by_48_and_40_by_24(family):
    cond = {"low": draw(1, 2, 8, 12, seed=7)}
    options = {"steps": 5 if family == "jet" else 2, "patch": 8, **SMALL}
    flow = awake(getattr(flows, family)((1, 32, 48), {"low": (2, 8, 12)}, **options))
    for places in ((32, 48), (40, 24)):
        assert_jacobian(Flow(flow.bijection), draw(1, 1, *places), cond)


@pytest.mark.parametrize("make", [jet, tarflow])
def test_places_and_entries_all_matter(make):
    flow, x, cond = make(), draw(1, 1, 4, 6), conditions(1)
    before = flow.log_prob(x, cond)
    for key, entry in cond.items():
        entry.requires_grad_()
        (grad,) = torch.autograd.grad(flow.log_prob(x, cond).sum(), entry)
        assert grad.abs().amin() > 0, key
    turned_ = flow.log_prob(x.flip(3), cond)
    assert not torch.isclose(before, turned_)


TRANSFORMER = partial(Transformer, axes=1, **SMALL)
EXAMPLES = [
    Example(partial(Coupling, 3, TRANSFORMER, cond_channels=2), (3, 3), (2, 2), name="coupling"),
    Example(
        partial(MaskedCoupling, 1, Checkerboard(), TRANSFORMER, cond_channels=2),
        (1, 4),
        (2,),
        name="masked",
    ),
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
@pytest.mark.parametrize(
    "check",
    [
        check_condition,
        check_empty_batch,
        check_extremes,
        check_fold,
        check_given,
        check_independent_samples,
        check_logdet,
        check_low_precision,
        check_reuse,
        check_reversible,
        check_round_trip,
    ],
)
def test_a_coupling_by_a_transformer_holds(check, example):
    check(example)


@pytest.mark.parametrize("reverse", [False, True])
def test_numbers_for_a_place_see_those_before_alone(reverse):
    net = awake(CausalTransformer(2, 3, reverse=reverse, **SMALL))
    x = draw(1, 2, 2, 3).requires_grad_()
    answer = net(x).flatten(2)
    for place in range(6):
        (grad,) = torch.autograd.grad(answer[:, :, place].sum(), x, retain_graph=True)
        seen = grad.abs().sum(1).flatten() > 0
        expected = torch.arange(6) > place if reverse else torch.arange(6) < place
        assert seen.equal(expected)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_decoding_gives_what_one_pass_gives(reverse, guidance):
    net = awake(CausalTransformer(2, 3, cond_channels=4, reverse=reverse, **SMALL))
    net.guidance = guidance
    x, cond = draw(3, 2, 2, 3), draw(3, 4, 3, 2, seed=1)
    expected = net(x, cond).flatten(2)
    tokens, expected = (v.transpose(1, 2) for v in (x.flatten(2), expected))
    if reverse:
        tokens, expected = tokens.flip(1), expected.flip(1)
    decoding, done = net.decoding((2, 3), x, net.first_cond(cond)), 0
    for asked, kept in ((6, 1), (1, 1), (3, 2), (2, 2)):
        answer = decoding.ahead(tokens[:, max(done - 1, 0) : done + asked - 1])
        torch.testing.assert_close(answer, expected[:, done : done + asked], rtol=0, atol=1e-12)
        decoding.keep(kept)
        done += kept
    assert not list(net.buffers())


def test_rounds_stop_when_nothing_moves_any_more():
    layer = awake(TokenAutoregressive(2, partial(CausalTransformer, **SMALL)))
    y = draw(2, 2, 4, 4)
    asked = []
    # What is at the place before each that is asked about: at the first there is none.
    layer.net.first.register_forward_hook(lambda _, x, __: asked.append(x[0].shape[1]))
    with torch.no_grad():
        exact, exact_logdet = layer.inverse(y)
        assert asked == [0, *[1] * 15]
        found = {}
        for tolerance in (0.0, 1e-3):
            asked.clear()
            layer.parallel = tolerance
            found[tolerance] = layer.inverse(y)
            rounds = len(asked)
            assert asked[0] == 15
            assert rounds <= 16
            # What has settled isn't asked about again.
            assert all(now < before for before, now in pairwise([16, *asked[1:]]))
    assert rounds < 12
    torch.testing.assert_close(found[0.0][0], exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(found[0.0][1], exact_logdet, rtol=0, atol=1e-12)
    assert (found[1e-3][0] - exact).abs().max() < 1e-3 * exact.abs().max()
    asked.clear()
    layer.inverse(y)[0].sum().backward()
    assert asked == [0, *[1] * 15]  # place by place, which has gradients
    assert all(parameter.grad is not None for parameter in layer.parameters())


class Halved(TokenAutoregressive):
    def params(self, x, cond):
        return super().params(x, cond) / 2


class Doubled(CausalTransformer):
    def respond(self, x, share=None):
        return super().respond(2 * x, share)


@pytest.mark.parametrize("change", ["layer", "net", "hook", "method"])
@pytest.mark.parametrize("cond", [None, draw(2, 3)])
@pytest.mark.parametrize("parallel", [None, 0.0])
def test_what_changes_the_numbers_changes_both_ways(change, cond, parallel):
    """Steps pass by all of these."""
    net = partial(Doubled if change == "net" else CausalTransformer, axes=1, **SMALL)
    kind = Halved if change == "layer" else TokenAutoregressive
    depth = 0 if cond is None else 3
    layer = awake(kind(2, net, parallel=parallel, cond_channels=depth))
    if change == "hook":
        layer.net.register_forward_hook(lambda _, __, answer: answer / 2)
    if change == "method":
        layer.params = lambda x, cond, own=layer.params: own(x, cond) / 2
    x = draw(2, 2, 5)
    for one in (layer, layer.given(cond)) if cond is not None else (layer,):
        y, logdet = one(x, None if one is not layer else cond)
        back, back_logdet = one.inverse(y, None if one is not layer else cond)
        torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
        torch.testing.assert_close(back_logdet, -logdet, rtol=0, atol=1e-12)
        torch.testing.assert_close(y, layer(x, cond)[0], rtol=0, atol=1e-12)
    y = y.detach().requires_grad_()
    (grad,) = torch.autograd.grad(layer.inverse(y, cond)[0].sum(), y)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x, cond)[0], x)
    expected = torch.linalg.solve(jacobian.reshape(20, 20).T, torch.ones(20).double())
    torch.testing.assert_close(grad.flatten(), expected, rtol=0, atol=1e-10)


def test_the_condition_is_worked_with_once():
    for make in (jet, tarflow):
        flow, cond, asked = make(), conditions(2), []
        for module in flow.modules():
            if isinstance(module, Transformer):
                count = lambda *_, asked=asked: asked.append(1)  # noqa: E731
                module.first_cond.register_forward_hook(count)
        given = flow.given(cond)
        before = len(asked)
        assert before > 0
        with torch.no_grad():
            given.log_prob(draw(2, 1, 4, 6))
            given.sample((3,))
        assert len(asked) == before


def test_jet_is_reversible_in_constant_memory():
    flow, x, cond = jet(), draw(2, 1, 4, 6), conditions(2)
    grads = []
    for one in (flow, Flow(Reversible(flow.bijection))):
        flow.zero_grad()
        one.log_prob(x, cond).sum().backward()
        grads.append([p.grad.clone() for p in flow.parameters()])
    for came, expected in zip(*grads, strict=True):
        torch.testing.assert_close(came, expected, rtol=0, atol=1e-9)


def test_nets_in_bf16_leave_the_latent_path_in_float32():
    flow = tarflow().float()
    for layer in flow.modules():
        if isinstance(layer, TokenAutoregressive):
            layer.net.bfloat16()
    cond = {key: entry.float() for key, entry in conditions(2).items()}
    x = draw(2, 1, 4, 6, dtype=torch.float32)
    z, logdet = flow.encode(x, cond)
    back, _ = flow.decode(z, cond)
    assert z.dtype == logdet.dtype == back.dtype == torch.float32
    # A step and the one pass round a net's answers to 2⁻⁸ each in its own way.
    torch.testing.assert_close(back, x, rtol=0, atol=0.1)


def test_autocast_stays_outside():
    flow = tarflow().float()
    cond = {key: entry.float() for key, entry in conditions(2).items()}
    x = draw(2, 1, 4, 6, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = flow.encode(x, cond)
        given = flow.given(cond).log_prob(x)
    assert all(map(torch.equal, found, flow.encode(x, cond)))
    torch.testing.assert_close(given, flow.log_prob(x, cond))


def test_guidance_is_what_it_says():
    flow, x, cond = tarflow(cond=3), draw(2, 1, 4, 6), draw(2, 3, seed=1)
    torch.testing.assert_close(guided(flow, 0.0).log_prob(x, cond), flow.log_prob(x, cond))
    strong = guided(flow, 1.0)
    nothing = torch.zeros_like(cond)
    torch.testing.assert_close(strong.log_prob(x, nothing), flow.log_prob(x, nothing))
    tokens, _ = flow.bijection[0](x)
    under, without = (flow.bijection[1].params(tokens, c) for c in (cond, nothing))
    torch.testing.assert_close(
        strong.bijection[1].params(tokens, cond), 2 * under - without, rtol=0, atol=1e-12
    )
    z, logdet = strong.encode(x, cond)
    back, negative = strong.decode(z, cond)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(logdet, -negative, rtol=0, atol=1e-12)
    torch.testing.assert_close(strong.given(cond).log_prob(x), strong.log_prob(x, cond))
    assert not any(p.requires_grad for p in strong.parameters())
    assert all(p.requires_grad for p in flow.parameters())


class Steeper(Transformer):
    def respond(self, x, share=None):
        return super().respond(3 * x, share).tanh()


def test_a_response_of_ones_own_is_guided_too():
    net = partial(Steeper, axes=1, **SMALL)
    layer = awake(Coupling(2, net, cond_channels=3))
    x, cond = draw(2, 2, 4), draw(2, 3, seed=1)
    under, without = (layer.params(x, c) for c in (cond, torch.zeros_like(cond)))
    strong = guided(layer, 1.5)
    torch.testing.assert_close(strong.params(x, cond), 2.5 * under - 1.5 * without)
    torch.testing.assert_close(strong.given(cond)(x), strong(x, cond))


class Passing(Transformer):
    def forward(self, x, cond=None):
        return super().forward(x, cond).tanh()


def test_a_forward_of_ones_own_is_not_guided_in_silence():
    layer = Coupling(2, partial(Passing, axes=1, **SMALL), cond_channels=3)
    with pytest.raises(ValueError, match="by respond, got Passing with a forward of its own"):
        guided(layer, 1.0)


def test_dropped_conditions():
    cond = {"a": torch.ones(1000, 2), "b": torch.ones(1000, 3, 4)}
    torch.manual_seed(0)
    left = dropped(cond, 0.3)
    gone = left["a"][:, 0] == 0
    assert left["b"][gone].eq(0).all()
    assert left["b"][~gone].eq(1).all()
    # Four standard deviations of a share of 0.3 in 1000.
    assert gone.float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert torch.equal(dropped(cond["a"], 0.0), cond["a"])
    assert dropped(None) is None


def test_denoising_a_gaussian_is_shrinking_it():
    flow = Flow(awake(Coupling(2, partial(MLP, hidden=4))))
    for parameter in flow.parameters():
        parameter.data.zero_()
    x = draw(5, 2)
    # p is a standard normal, whose score is -x.
    torch.testing.assert_close(denoise(flow, x, 0.3), x * (1 - 0.3**2))
    with torch.no_grad():
        found = denoise(flow, x, torch.tensor(0.3))
    assert not found.requires_grad


def test_samples_of_inference_mode_are_denoised():
    flow, cond = awake(flows.nsf(2, cond=1)), draw(3, 1)
    with torch.inference_mode():
        cond = cond.clone()
        x = flow.sample(cond)
        inside = denoise(flow, x, torch.full((3, 1), 0.1), cond)
    assert inside.equal(denoise(flow, x, torch.tensor(0.1, requires_grad=True), cond))
    assert inside.dtype == torch.float64
    assert not inside.requires_grad


def test_what_is_dropped_is_zero_even_if_it_was_not_finite():
    cond = {"a": torch.full((3, 2), math.nan), "b": torch.tensor([1, 2, 3])}
    assert all(not entry.any() for entry in dropped(cond, 1.0).values())


def test_rounds_are_differentiated_and_batched_by_torch_func():
    """By steps: rounds look at values, and their derivatives lag behind these."""
    layer = awake(TokenAutoregressive(2, partial(CausalTransformer, axes=1, **SMALL), parallel=0.1))
    y, v = draw(3, 2, 6), draw(3, 2, 6, seed=1)
    layer.requires_grad_(False)

    def inverse(y):
        return layer.inverse(y)[0]

    with sdpa_kernel(SDPBackend.MATH):  # the others have no forward derivatives
        jacobian = torch.autograd.functional.jacobian(inverse, y).reshape(36, 36)
        _, tangent = torch.func.jvp(inverse, (y,), (v,))
        each = torch.func.vmap(lambda y: inverse(y[None])[0])(y)
        layer.parallel = None
        torch.testing.assert_close(each, inverse(y), rtol=0, atol=1e-12)
    torch.testing.assert_close(tangent.flatten(), jacobian @ v.flatten(), rtol=0, atol=1e-12)


def test_the_same_spot_has_the_same_position_at_two_resolutions():
    coarse, fine = (coordinates(sizes, draw(1)) for sizes in ((2, 3), (4, 6)))
    middles = fine.reshape(2, 2, 3, 2, 2).mean((1, 3)).reshape(6, 2)
    torch.testing.assert_close(coarse, middles)
    assert coordinates((5, 5), draw(1)).mean(0).abs().max() < 1e-12


def test_turning_keeps_lengths_and_products_of_equal_distance():
    key, query = draw(1, 6), draw(1, 6, seed=1)
    angle = torch.tensor([[0.3, 1.1], [2.0, 0.4]], dtype=torch.float64)
    (a, b), moved = angle.split(1), 0.7
    product = turned(key, a) @ turned(query, b).T
    torch.testing.assert_close(turned(key, a + moved) @ turned(query, b + moved).T, product)
    assert turned(key, a).norm().item() == pytest.approx(key.norm().item())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Transformer(2, 2, hidden=10), ValueError, "a multiple of heads=4.*got hidden=10"),
        (lambda: Transformer(2, 2, hidden=8), ValueError, "at least 4 numbers for each"),
        (
            lambda: Transformer(2, 2, axes=0),
            ValueError,
            r"axes among 1, 2, 3, got 0 \(vect",
        ),
        (lambda: Transformer(2, 2, depth=0), ValueError, "depth >= 1, got 0"),
        (
            lambda: tarflow(cond=3).log_prob(draw(1, 1, 4, 6), draw(1, 3, 2, 2, 2)),
            ValueError,
            r"condition with at most 2 axes of places, as x has, got \(1, 3, 2, 2, 2\)",
        ),
        (lambda: TokenAutoregressive(2, parallel=-1.0), ValueError, "parallel >= 0, got -1.0"),
        (lambda: TokenAutoregressive(2, parallel=True), TypeError, "a real number, got bool"),
        (
            lambda: TokenAutoregressive(2, lambda a, b, **_: Transformer(a, b)),
            TypeError,
            "expected a CausalTransformer, got Transformer",
        ),
        (lambda: flows.jet((1, 9, 8)), ValueError, r"jet: .*multiples of patch=4, got \(1, 9, 8\)"),
        (lambda: flows.tarflow((3,)), ValueError, r"tarflow: expected samples \(C, \*S\) with"),
        (
            lambda: guided(flows.nsf(2), 1.0),
            ValueError,
            "expected a Transformer with cond_channels",
        ),
        (lambda: guided(flows.nsf(2), math.nan), ValueError, "finite weight, got nan"),
        (lambda: guided(flows.nsf(2), "1"), TypeError, "weight as a real number, got str"),
        (lambda: guided(flows.nsf(2).given(), 1.0), TypeError, "got GivenFlow .guided first"),
        (
            lambda: guided(tarflow(cond=3).bijection.given(draw(1, 3)), 1.0),
            ValueError,
            "whose condition isn't given yet",
        ),
        (
            lambda: dropped({"a": draw(2, 1), "b": draw(1, 1)}),
            ValueError,
            "for one number of samples",
        ),
        (lambda: dropped([0.0]), TypeError, "condition as a tensor.*got list"),
        (lambda: denoise(flows.nsf(2), draw(3, 2), draw(3, 1).neg()), ValueError, "sigma >= 0"),
        (
            lambda: denoise(flows.nsf(2), draw(3, 2), torch.ones(3, 1, 1)),
            ValueError,
            r"broadcast to \(3, 2\), got \(3, 1, 1\)",
        ),
        (lambda: dropped(draw(2, 2), 1.5), ValueError, r"a share in \[0, 1\], got 1.5"),
        (lambda: denoise(flows.nsf(2), draw(1, 2), -1), ValueError, "sigma >= 0, got -1"),
        (
            lambda: tarflow(cond=3).log_prob(draw(1, 1, 4, 6), draw(1, 2)),
            ValueError,
            r"a condition of shape \(1, 3, \*S\) or \(1, 3\), got \(1, 2\)",
        ),
        (
            lambda: tarflow(cond=None).bijection[1].inverse(draw(1, 4, 6)),
            ValueError,
            r"expected input of shape \(B, 4, H, W\)",
        ),
    ],
)
def test_mistakes_are_told(make, error, message):
    with pytest.raises(error, match=message):
        make()
