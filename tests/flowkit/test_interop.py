"""Bridges to torch.distributions, normflows and zuko: the same map, and refusals in words."""

import copy
import math
from functools import partial

import pytest
import torch
from moved import moved
from torch import distributions, nn
from torch.distributions import transforms

from flowkit import (
    MLP,
    ActNorm,
    AsTransform,
    At,
    Chain,
    ConvNet,
    Coupling,
    Flatten,
    Flow,
    FromTransform,
    Inverse,
    InvertibleLinear,
    Squeeze,
    StandardNormal,
    diagonal_normal,
)

close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)  # float64 through few layers


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def vectors(**condition):
    chain = Chain(ActNorm(3), Coupling(3, partial(MLP, hidden=6), **condition), InvertibleLinear(3))
    return moved(chain.double())


def images():
    return moved(Chain(Squeeze(), Coupling(4, partial(ConvNet, hidden=4)), ActNorm(4)).double())


# torch.distributions


@pytest.mark.parametrize(
    ("bijection", "shape", "ranks"),
    [
        (vectors, (3,), (1, 1)),
        (lambda: moved(ActNorm(2).double()), (2, 5), (2, 2)),
        (images, (1, 4, 6), (3, 3)),
        (lambda: Chain(images(), Flatten((4, 2, 3))), (1, 4, 6), (3, 1)),
    ],
)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (0,)])
def test_a_bijection_is_a_transform_of_its_rank(bijection, shape, ranks, lead):
    bijection = bijection()
    transform = AsTransform(bijection, shape)
    assert (transform.domain.event_dim, transform.codomain.event_dim) == ranks
    x = normal(*lead, *shape)
    y = transform(x)
    assert y.shape == transform.forward_shape(x.shape)
    assert x.shape == transform.inverse_shape(y.shape)
    value, logdet = bijection(x.reshape(-1, *shape))
    assert y.reshape(value.shape).equal(value)
    assert transform.log_abs_det_jacobian(x, y).shape == lead
    close(transform.log_abs_det_jacobian(x, y).reshape(-1), logdet)
    close(transform.inv(y), x)
    close(transform.inv.log_abs_det_jacobian(y, x).reshape(-1), -logdet)


def test_a_transformed_distribution_is_the_flow():
    bijection, x = images(), normal(5, 1, 4, 6)
    zero = torch.zeros(4, 2, 3, dtype=torch.float64)
    base = distributions.Independent(distributions.Normal(zero, 1.0), 3)
    theirs = distributions.TransformedDistribution(base, AsTransform(bijection, (1, 4, 6)).inv)
    assert theirs.event_shape == (1, 4, 6)
    close(theirs.log_prob(x), Flow(bijection).double().log_prob(x))
    assert theirs.rsample((7,)).shape == (7, 1, 4, 6)
    assert theirs.rsample().requires_grad


def test_other_sizes_are_mapped_too():
    transform, x = AsTransform(images(), (1, 4, 6)), normal(2, 1, 8, 4)
    close(transform.inv(transform(x)), x)


def test_a_bound_condition_goes_along_the_last_axis_before_the_sample():
    bijection, cond = vectors(cond_channels=2), normal(4, 2, seed=1)
    transform, x = AsTransform(bijection.given(cond), (3,)), normal(5, 4, 3)
    for sample, y in zip(x, transform(x), strict=True):
        close(y, bijection(sample, cond)[0])


def test_domains_are_said():
    unit = distributions.constraints.unit_interval
    transform = AsTransform(FromTransform(transforms.SigmoidTransform()), (2,), codomain=unit)
    assert transform.codomain.event_dim == 1
    assert not transform.codomain.check(torch.tensor([0.5, 2.0]))
    base = distributions.Independent(distributions.Normal(torch.zeros(2), 1.0), 1)
    assert distributions.TransformedDistribution(base, transform).support.event_dim == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((nn.Linear(2, 2), (2,)), TypeError, "AsTransform: expected a bijection, got Linear"),
        ((ActNorm(2), 2), TypeError, r"expected shape=\(C, \*S\) of one sample, got int"),
        ((ActNorm(2), (3,)), ValueError, r"ActNorm: expected samples of shape \(2, \*S\), got \(3"),
        (
            (Coupling(2, MLP, cond_channels=1), (2,)),
            ValueError,
            r"without a condition, got Coupling, which may read one \(bijection\.given\(cond\)\)",
        ),
    ],
)
def test_what_makes_no_transform_is_refused(arguments, kind, words):
    with pytest.raises(kind, match=words):
        AsTransform(*arguments)


def test_samples_of_too_few_axes_are_refused():
    transform = AsTransform(images(), (1, 4, 6))
    with pytest.raises(ValueError, match=r"expected samples of 3 axes \(C, \*S\) .*, got \(4, 6\)"):
        transform(normal(4, 6))


def test_a_transform_is_a_bijection():
    affine = transforms.AffineTransform(torch.tensor([1.0, 2.0]).double(), 3.0)
    x = normal(5, 2)
    y, logdet = FromTransform(affine)(x)
    close(y, affine(x))
    close(logdet, torch.full((5,), 2 * math.log(3), dtype=torch.float64))
    one_by_one, at_once = (
        FromTransform(t)(x) for t in (affine, transforms.IndependentTransform(affine, 1))
    )
    close(one_by_one, at_once)
    reshaped = FromTransform(transforms.ReshapeTransform((2, 3), (6,)))
    assert reshaped.shape((2, 3)) == (6,)
    assert reshaped.shape((6,), inverse=True) == (2, 3)
    assert reshaped(normal(4, 2, 3))[0].shape == (4, 6)


def test_a_transform_of_computed_tensors_folds():
    raw = torch.ones(2, dtype=torch.float64, requires_grad=True)
    base = torch.distributions.Normal(raw.exp(), 2 * raw)
    parts = [transforms.CumulativeDistributionTransform(base), transforms.AffineTransform(0, raw)]
    layer = FromTransform(transforms.ComposeTransform(parts))
    x = normal(5, 2)
    for got, expected in zip(layer.fold()(x), layer(x), strict=True):
        close(got, expected)
        assert expected.requires_grad
        assert not got.requires_grad


@pytest.mark.parametrize(
    ("transform", "kind", "words"),
    [
        (transforms.AbsTransform(), ValueError, "a bijective transform, got AbsTransform, which"),
        (transforms.ExpTransform, TypeError, r"got the class ExpTransform \(call it\)"),
        (ActNorm(2), TypeError, r"torch\.distributions, got ActNorm \(a layer already\?\)"),
        (transforms.ExpTransform().inv, ValueError, r"inverse of one \(Inverse\(FromTransform"),
    ],
)
def test_what_makes_no_bijection_is_refused(transform, kind, words):
    with pytest.raises(kind, match="FromTransform: expected .*" + words):
        FromTransform(transform)


def test_transforms_that_do_not_fit_the_samples_are_refused():
    two = FromTransform(transforms.IndependentTransform(transforms.ExpTransform(), 2))
    words = r"at least 2 axes, which IndependentTransform maps at once, got samples of 1"
    with pytest.raises(ValueError, match=words):
        two(normal(5, 3))
    with pytest.raises(ValueError, match=words):
        two.shape((3,))
    with pytest.raises(ValueError, match=r"as many numbers .* StickBreakingTransform has no Jacob"):
        FromTransform(transforms.StickBreakingTransform())(normal(5, 3))


# normflows


@pytest.fixture
def normflows():
    return pytest.importorskip("normflows")


def test_normflows_layers_make_the_same_density(normflows):
    from flowkit.interop.normflows import FromNormflows

    layers = [
        normflows.flows.AutoregressiveRationalQuadraticSpline(3, 1, 8),
        normflows.flows.LULinearPermute(3),
        normflows.flows.MaskedAffineAutoregressive(3, 8, num_blocks=1),
        normflows.flows.AffineConstFlow((3,)),
    ]
    model = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(3), layers)
    model = moved(model.double().eval())
    base = model.q0
    mean, std = base.loc.detach(), base.log_scale.detach().exp()
    flow = Flow(Chain(*map(FromNormflows, reversed(model.flows))), Fixed(mean, std))
    x = normal(6, 3)
    close(flow.log_prob(x), model.log_prob(x))
    close(flow.decode(flow.encode(x)[0])[0], x)


class Fixed(nn.Module):
    """N(mean, std²)."""

    conditional = False

    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, cond):
        return diagonal_normal(self.mean, self.std)


def test_normflows_layers_get_the_condition_as_context(normflows):
    from flowkit.interop.normflows import FromNormflows

    layer = normflows.flows.MaskedAffineAutoregressive(3, 8, context_features=2, num_blocks=1)
    layer = moved(layer.double())
    x, cond = normal(6, 3), normal(6, 2, seed=1)
    bridge = FromNormflows(layer, conditional=True)
    close(bridge(x, cond), layer.inverse(x, context=cond))
    close(bridge.inverse(x, cond), layer(x, context=cond))
    close(At("c", bridge).given({"c": cond})(x), bridge(x, cond))
    with pytest.raises(ValueError, match="FromNormflows: expected a condition, got None"):
        bridge(x)
    with pytest.raises(ValueError, match="expected no condition, since nothing in this flow reads"):
        Flow(FromNormflows(layer)).log_prob(x, cond)


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (
            lambda n: n.NormalizingFlow(None, []),
            TypeError,
            r"one layer, got a model \(Chain\(\*map",
        ),
        (lambda n: n.flows.Permute, TypeError, r"normflows\.flows, got the class Permute"),
        (lambda n: ActNorm(2), TypeError, r"normflows\.flows, got ActNorm"),
        (lambda n: n.flows.Radial((3,)), ValueError, r"an inverse, got Radial, which normflows"),
        (lambda n: n.flows.BatchNorm(), ValueError, r"an inverse, got BatchNorm"),
    ],
)
def test_what_is_no_layer_of_normflows_is_refused(normflows, make, kind, words):
    from flowkit.interop.normflows import FromNormflows

    with pytest.raises(kind, match=r"FromNormflows: expected .*" + words):
        FromNormflows(make(normflows))


def test_layers_of_normflows_that_fail_in_use_are_refused(normflows):
    from flowkit.interop.normflows import FromNormflows

    x = torch.randn(2, 4, 2, 2)
    with pytest.raises(ValueError, match=r"an inverse, got Planar, of which normflows says"):
        FromNormflows(normflows.flows.Planar((3,)))(torch.randn(2, 3))
    words = r"keeps the shape \(2, 4, 2, 2\), got \(2, 16, 1, 1\) from Squeeze \(flowkit has"
    with pytest.raises(ValueError, match=words):
        FromNormflows(normflows.flows.Squeeze())(x)
    with pytest.raises(ValueError, match=r"keeps the shape .*, got list from Split"):
        FromNormflows(normflows.flows.Split()).inverse(x)


def test_a_bijection_is_a_layer_of_a_normflows_model(normflows):
    from flowkit.interop.normflows import AsNormflows, FromNormflows

    bijection, x = vectors(), normal(6, 3)
    base = normflows.distributions.DiagGaussian(3, trainable=False)
    flip = normflows.flows.Permute(3)
    model = normflows.NormalizingFlow(base, [flip, AsNormflows(bijection)]).double()
    ours = Flow(Chain(bijection, FromNormflows(flip)), StandardNormal(3)).double()
    close(model.log_prob(x), ours.log_prob(x))
    sample, log_prob = model.float().sample(5)
    close(log_prob, ours.float().log_prob(sample), rtol=1e-4, atol=1e-4)  # float32
    model.forward_kld(sample.detach()).backward()
    assert all(p.grad is not None for p in bijection.parameters())
    close(FromNormflows(AsNormflows(bijection.double()))(x), bijection(x))


def test_a_bijection_in_a_conditional_model_of_normflows(normflows):
    from flowkit.interop.normflows import AsNormflows

    bijection, x, cond = vectors(cond_channels=2), normal(6, 3), normal(6, 2, seed=1)
    unconditional = moved(ActNorm(3).double())
    layers = [AsNormflows(bijection), AsNormflows(unconditional)]
    base = normflows.distributions.DiagGaussian(3, trainable=False)
    model = normflows.ConditionalNormalizingFlow(base, layers).double()
    ours = Flow(Chain(unconditional, bijection), StandardNormal(3)).double()
    close(model.log_prob(x, context=cond), ours.log_prob(x, cond))
    z = model.inverse(x, context=cond)
    close(model.forward(z, context=cond), x)
    with pytest.raises(ValueError, match=r"Coupling: expected a condition of 2 channels, got None"):
        normflows.NormalizingFlow(base, layers).log_prob(x)
    with pytest.raises(TypeError, match="AsNormflows: expected a bijection, got Permute"):
        AsNormflows(normflows.flows.Permute(3))


# zuko


@pytest.fixture
def zuko():
    return pytest.importorskip("zuko")


def test_a_zuko_flow_is_the_same_density(zuko):
    from flowkit.interop.zuko import FromZuko

    theirs = moved(zuko.flows.NSF(3, 2, transforms=2, bins=4, hidden_features=(8,)).double())
    flow = Flow(FromZuko(theirs.transform, conditional=True), StandardNormal(3)).double()
    x, cond = normal(6, 3), normal(6, 2, seed=1)
    close(flow.log_prob(x, cond), theirs(cond).log_prob(x))
    close(flow.decode(flow.encode(x, cond)[0], cond)[0], x)
    assert flow.sample(cond, num_samples=4).shape == (4, 6, 3)
    assert dict(flow.named_parameters()).keys() == {
        f"bijection.transform.{name}" for name, _ in theirs.transform.named_parameters()
    }
    assert copy.deepcopy(flow).log_prob(x, cond).equal(flow.log_prob(x, cond))
    with pytest.raises(ValueError, match=r"FromZuko: expected a condition \(B, D\), got NoneType"):
        flow.log_prob(x)


def test_bound_and_inverse_transforms_of_zuko(zuko):
    from flowkit.interop.zuko import FromZuko

    lazy = moved(zuko.flows.MaskedAutoregressiveTransform(3, hidden_features=(8,)).double())
    x = normal(6, 3)
    close(FromZuko(lazy())(x), FromZuko(lazy)(x))
    close(FromZuko(lazy.inv)(x), Inverse(FromZuko(lazy))(x))
    exp = FromZuko(zuko.transforms.ExpTransform())
    close(exp(x)[1], x.sum(1))


def test_what_is_no_transform_of_zuko_is_refused(zuko):
    from flowkit.interop.zuko import FromZuko

    with pytest.raises(TypeError, match=r"got the distribution MAF \(flow\.transform\)"):
        FromZuko(zuko.flows.MAF(3))
    with pytest.raises(TypeError, match=r"FromZuko: expected a transform .*, got Linear"):
        FromZuko(nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"a lazy transform .* got ExpTransform, which is bound"):
        FromZuko(zuko.transforms.ExpTransform(), conditional=True)
    with pytest.raises(ValueError, match=r"a bijective transform, got AbsTransform"):
        FromZuko(zuko.transforms.AbsTransform())
    maf = FromZuko(zuko.flows.MAF(3).transform)
    with pytest.raises(ValueError, match=r"FromZuko: expected input of shape .*, got \(3"):
        maf(torch.randn(3))
