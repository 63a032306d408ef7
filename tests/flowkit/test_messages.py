"""Mistakes of a first evening, each answered with who, what was expected, what came, what to do."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from flowkit import (
    LOFT,
    MADE,
    MLP,
    PLU,
    ActNorm,
    Affine,
    At,
    Autoregressive,
    Bernstein,
    Bijection,
    BoundedSpline,
    CausalTransformer,
    Chain,
    CircularSpline,
    ConvExponential,
    ConvNet,
    Coupling,
    CubicRational,
    DeepSigmoid,
    Dequantized,
    ExpScale,
    Flip,
    Flow,
    Injector,
    InvertibleLinear,
    LeakyReLU,
    LipschitzNet,
    LogisticMixture,
    Logit,
    MaskedConv,
    MixtureOfGaussians,
    OnChannels,
    Permute,
    Pointwise,
    RationalQuadraticSpline,
    Residual,
    ResNet,
    Reversible,
    RussianRoulette,
    SigmoidScale,
    SinhArcsinh,
    SoftplusScale,
    Squeeze,
    StandardNormal,
    TokenAutoregressive,
    Transformer,
    ask,
    denoise,
    diagonal_normal,
    dropped,
    initialize,
    zero_logdet,
)
from flowkit.nets import Conditioner

NET = partial(ConvNet, hidden=4)
X = torch.rand(4, 3, 8, 8)
COND = {"half": torch.rand(4, 3, 4, 4), "quarter": torch.rand(4, 3, 2, 2)}


def level(key, channels):
    coupling = Coupling(channels, NET, cond_channels=3)
    return Chain(Squeeze(), At(key, Chain(ActNorm(channels), coupling)))


def flow(base=None):
    return Flow(Chain(level("half", 12), level("quarter", 48)), base)


def resized(scale):
    return {
        key: torch.rand(4, 3, int(scale * entry.shape[2]), int(scale * entry.shape[3]))
        for key, entry in COND.items()
    }


class FixedBase(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, cond):
        return diagonal_normal(torch.zeros(self.shape))


class BaseOfCondition(nn.Module):
    def forward(self, cond):
        return diagonal_normal(cond["quarter"])


class ValueAlone(Bijection):
    def forward(self, x, cond=None):
        return 2 * x

    def inverse(self, y, cond=None):
        return y / 2


class WithoutCond(Bijection):
    def forward(self, x):
        return x, zero_logdet(x)


class ColumnOfLogdets(Bijection):
    def forward(self, x, cond=None):
        return x, torch.zeros(len(x), 1)


class NoSuper(Bijection):
    def __init__(self):
        self.factor = 2


def net_of(width):
    return lambda c_in, c_out: nn.Conv2d(c_in, width, 1)


MISTAKES = {
    "class for a map": (
        lambda: Coupling(4, MLP, Affine),
        r"^Coupling: expected an elementwise map, got the class Affine \(call it\)",
    ),
    "scale for a map": (
        lambda: Injector(4, MLP, ExpScale(), cond_channels=2),
        r"^Injector: expected an elementwise map such as Affine\(\), got ExpScale "
        r"\(Affine\(ExpScale\(\.\.\.\)\)\?\)",
    ),
    "weight that is made": (
        lambda: InvertibleLinear(4, PLU(4)),
        r"^InvertibleLinear: expected the kind of weight, .*\(weight=PLU\)",
    ),
    "class that is no factory": (
        lambda: Coupling(4, nn.Conv2d),
        r"^Coupling: expected a factory that makes the net from \(c_in, c_out\), .*kernel_size",
    ),
    "base that makes a tensor": (
        lambda: Flow(ActNorm(2), nn.Identity()).log_prob(torch.rand(4, 2), torch.rand(4, 2)),
        r"^Flow: expected the base to make a torch distribution, got Tensor",
    ),
    "initialize with other channels": (
        lambda: initialize(Chain(ActNorm(4)), torch.rand(5, 3)),
        r"^layer 0, ActNorm: expected input of shape \(B, 4, \*S\), got \(5, 3\)",
    ),
    "data with 1 channel": (
        lambda: flow().log_prob(X[:, :1], COND),
        r"^layer 0.1.0, ActNorm: expected input of shape \(B, 12, \*S\), got \(4, 4, 4, 4\); "
        r"the chain's input was \(4, 1, 8, 8\)$",
    ),
    "data with 1 channel, Reversible": (
        lambda: Reversible(flow().bijection)(X[:, :1], COND),
        r"^layer 0.1.0, ActNorm: expected input of shape \(B, 12, \*S\), got \(4, 4, 4, 4\)$",
    ),
    "a shape with 1 channel": (
        lambda: flow().sample(COND, shape=(1, 8, 8)),
        r"^layer 0.1.0, ActNorm: expected samples of shape \(12, \*S\), got \(4, 4, 4\); "
        r"the chain's input was \(1, 8, 8\)",
    ),
    "condition with 2 channels": (
        lambda: flow().log_prob(X, {key: entry[:, :2] for key, entry in COND.items()}),
        r"^layer 0.1.1, Coupling: expected a condition of shape \(4, 3, 4, 4\) or \(4, 3\), "
        r"got \(4, 2, 4, 4\)",
    ),
    "condition with 2 channels, sample": (
        lambda: flow().sample({k: v[:, :2] for k, v in COND.items()}, shape=(3, 8, 8)),
        r"^layer 1.1.1, Coupling: expected a condition of shape \(4, 3, 2, 2\) or \(4, 3\), "
        r"got \(4, 2, 2, 2\)",
    ),
    "condition with 2 channels, given": (
        lambda: flow().given({k: v[:, :2] for k, v in COND.items()}),
        r"^layer 0.1.1, Coupling: expected a condition of shape \(B, 3, \*S\) or \(B, 3\), "
        r"got \(4, 2, 4, 4\)$",
    ),
    "no condition": (
        lambda: flow().log_prob(X),
        r"^layer 0.1, At: expected a condition with the entry 'half', got None$",
    ),
    "no condition, sample": (
        lambda: flow().sample(shape=(3, 8, 8)),
        r"^layer 1.1, At: expected a condition with the entry 'quarter', got None",
    ),
    "no condition for a base that reads it": (
        lambda: flow(BaseOfCondition()).sample(),
        "the base was called without a condition; it may want one",
    ),
    "no condition for a base that takes its size": (
        lambda: flow(StandardNormal(48, like="quarter")).sample(),
        "StandardNormal: expected a condition with the entry 'quarter', got NoneType",
    ),
    "missing entry": (
        lambda: flow().log_prob(X, {"half": COND["half"]}),
        r"^layer 1.1, At: expected a condition with the entry 'quarter', got \['half'\]$",
    ),
    "missing entry, given": (
        lambda: flow().given({"half": COND["half"]}),
        r"^layer 1.1, At: expected a condition with the entry 'quarter', got \['half'\]$",
    ),
    "a tensor for a mapping": (
        lambda: flow().log_prob(X, COND["half"]),
        "layer 0.1, At: expected a mapping with the entry 'half', got Tensor",
    ),
    "a mapping for a tensor": (
        lambda: Chain(Coupling(3, NET, cond_channels=3))(X, COND),
        r"layer 0, Coupling: expected a condition tensor, got dict \(flowkit.At picks one entry",
    ),
    "cond_channels forgotten": (
        lambda: Flow(Chain(Squeeze(), Coupling(12, NET))).log_prob(X, COND["half"]),
        r"nothing in this flow reads one; got one \(cond_channels= makes a layer conditional\)",
    ),
    "cond_channels forgotten, sample": (
        lambda: Flow(Coupling(4, NET)).sample(COND["half"], shape=(4, 4, 4)),
        "nothing in this flow reads one",
    ),
    "cond_channels forgotten, initialize": (
        lambda: initialize(Chain(ActNorm(3), Coupling(3, NET)), X, X),
        "initialize: expected no condition, since nothing in this flow reads one",
    ),
    "odd size": (
        lambda: flow().log_prob(torch.rand(4, 3, 9, 9), COND),
        r"^layer 0.0, Squeeze: expected H and W to be multiples of 2, got samples of shape "
        r"\(3, 9, 9\); crop or pad them$",
    ),
    "odd size at the second level": (
        lambda: flow().log_prob(torch.rand(4, 3, 10, 10), resized(1.25)),
        r"^layer 1.0, Squeeze: .* got samples of shape \(12, 5, 5\); crop or pad them; "
        r"the chain's input was \(4, 3, 10, 10\)$",
    ),
    "odd size at the second level, sample": (
        lambda: flow().sample(COND, shape=(3, 10, 10)),
        r"^layer 1.0, Squeeze: .* got samples of shape \(12, 5, 5\); crop or pad them; "
        r"the chain's input was \(3, 10, 10\)$",
    ),
    "condition at another resolution": (
        lambda: flow().log_prob(X, resized(2)),
        r"^layer 0.1.1, Coupling: expected a condition of shape \(4, 3, 4, 4\) or \(4, 3\), "
        r"got \(4, 3, 8, 8\)",
    ),
    "condition at another resolution, sample": (
        lambda: flow().sample(resized(2), shape=(3, 8, 8)),
        r"(?s)^layer 1.1.1, Coupling: expected a condition of shape \(4, 3, 2, 2\) or \(4, 3\), "
        r"got \(4, 3, 4, 4\).*The noise's shape \(48, 2, 2\) comes from shape=\(3, 8, 8\).",
    ),
    "condition at another resolution, several samples": (
        lambda: flow().sample(resized(2), shape=(3, 8, 8), num_samples=2),
        r"(?s)^layer 1.1.1, ConvNet: expected a condition of shape \(4, 3, 2, 2\) or \(4, 3\), "
        r"got \(4, 3, 4, 4\).*The noise's shape \(48, 2, 2\) comes from shape=\(3, 8, 8\).",
    ),
    "condition larger than the base": (
        lambda: flow(StandardNormal((48, 2, 2))).sample(resized(2)),
        r"(?s)expected a condition of shape \(4, 3, 2, 2\).*\(48, 2, 2\) comes from the base",
    ),
    "condition for an injector at another resolution, given": (
        lambda: Chain(Injector(3, NET, cond_channels=3)).given(X[:, :, :4])(X),
        r"layer 0, Injector: expected a condition of shape \(4, 3, 8, 8\) or \(4, 3\), "
        r"got \(4, 3, 4, 8\)",
    ),
    "condition of another batch": (
        lambda: flow().log_prob(X, {key: entry[:1] for key, entry in COND.items()}),
        r"expected a condition for each of 4 samples, got one for 1",
    ),
    "entries of several batches": (
        lambda: flow().sample(COND | {"half": COND["half"][:2]}, shape=(3, 8, 8)),
        "expected entries for one number of samples, got {'half': 2, 'quarter': 4}",
    ),
    "uint8": (
        lambda: flow().log_prob((255 * X).byte(), COND),
        r"expected a floating-point tensor, got torch.uint8 \(x.float\(\)\?\)",
    ),
    "labels as integers": (
        lambda: Injector(3, MLP, cond_channels=3)(torch.rand(2, 3), torch.ones(2, 3).long()),
        r"expected a floating-point condition, got torch.int64 \(labels: .*one_hot",
    ),
    "empty batch, initialize": (
        lambda: initialize(flow(), X[:0], {key: entry[:0] for key, entry in COND.items()}),
        r"initialize: expected samples, got a batch of shape \(0, 3, 8, 8\)",
    ),
    "super().__init__ forgotten, Chain": (
        lambda: Chain(NoSuper()),
        r"Chain: expected NoSuper.__init__ to call super\(\).__init__\(\) first",
    ),
    "super().__init__ forgotten, Flow": (
        lambda: Flow(NoSuper()),
        r"Flow: expected NoSuper.__init__ to call super\(\).__init__\(\) first",
    ),
    "Chain of a list": (
        lambda: Chain([Flip()]),
        r"Chain: expected bijections, got list \(unpack it: \*layers\)",
    ),
    "Chain of a class": (
        lambda: Chain(Flip),
        r"Chain: expected a bijection, got the class Flip \(call it\)",
    ),
    "Chain of a module": (lambda: Chain(nn.ReLU()), "Chain: expected a bijection, got ReLU"),
    "Flow of a list": (lambda: Flow([Flip()]), "Flow: expected bijections, got list"),
    "a function as base": (
        lambda: Flow(Flip(), lambda cond: diagonal_normal(X)),
        r"Flow: expected the base as a module, got function \(StandardNormal, or a torch.nn.Module",
    ),
    "a distribution as base": (
        lambda: Flow(Flip(), diagonal_normal(X)),
        "Flow: expected the base as a module, got Independent",
    ),
    "a list as data": (
        lambda: flow().log_prob(X.tolist(), COND),
        r"Flow: expected a tensor \(B, C, \*S\), got list \(torch.as_tensor makes one\)",
    ),
    "an array as data": (lambda: flow().log_prob(np.zeros((4, 3, 8, 8)), COND), "got ndarray"),
    "an array as data, initialize": (
        lambda: initialize(flow(), np.zeros((4, 3, 8, 8)), COND),
        "initialize: expected a tensor .* got ndarray",
    ),
    "a list as condition": (
        lambda: flow().log_prob(X, [1.0]),
        "Flow: expected a condition as a tensor, or a mapping of tensors by name, got list",
    ),
    "lists in the condition": (
        lambda: flow().log_prob(X, {key: entry.tolist() for key, entry in COND.items()}),
        "Flow, entry 'half': expected a condition as a tensor, .* got list",
    ),
    "sample(16)": (
        lambda: flow().sample(16),
        r"Flow: expected a condition .*, got the number 16 \(num_samples=16\?\)",
    ),
    "sample without a shape": (
        lambda: flow().sample(COND),
        r"expected shape=\(C, \*S\) of a sample, since neither the base nor the condition tells it",
    ),
    "shape=8": (lambda: flow().sample(COND, shape=8), r"expected shape=\(C, \*S\) .* got int"),
    "num_samples=2.5": (
        lambda: flow().sample(COND, shape=(3, 8, 8), num_samples=2.5),
        "expected num_samples as an integer, got float",
    ),
    "num_samples=0": (
        lambda: flow().sample(COND, shape=(3, 8, 8), num_samples=0),
        "expected num_samples >= 1, got 0",
    ),
    "temperature=-1": (
        lambda: flow().sample(COND, shape=(3, 8, 8), temperature=-1),
        "expected temperature >= 0, got -1",
    ),
    "a net instead of a factory": (
        lambda: Coupling(4, ConvNet(2, 4)),
        r"Coupling: expected a factory that makes the net from \(c_in, c_out\), got ConvNet "
        r"\(pass a class, a functools.partial of one, or a lambda\)",
    ),
    "a factory that makes no net": (
        lambda: Coupling(4, lambda c_in, c_out: 3),
        "Coupling: expected the factory to make a net, got int",
    ),
    "net with too many outputs": (
        lambda: Chain(Squeeze(), Coupling(12, net_of(13)))(X),
        r"^layer 1, Coupling: expected 2 numbers for each of 6 channels from the net, shape "
        r"\(4, 12, 4, 4\), got \(4, 13, 4, 4\)",
    ),
    "net for vectors on images": (
        lambda: Chain(Coupling(4, MLP))(torch.rand(2, 4, 3, 2)),
        r"^layer 0, MLP: expected input of shape \(B, C\), got \(2, 2, 3, 2\)",
    ),
    "net for images on vectors": (
        lambda: Chain(Coupling(4, NET))(torch.rand(2, 4)),
        r"^layer 0, ConvNet: expected input of shape \(B, C, H, W\), got \(2, 2\)",
    ),
    "net for images on sequences, as many samples as channels": (
        lambda: Chain(Coupling(4, NET))(torch.rand(2, 4, 5)),
        r"^layer 0, ConvNet: expected input of shape \(B, C, H, W\), got \(2, 2, 5\)",
    ),
    "net whose own layers don't fit": (
        lambda: Chain(Flip(), Coupling(4, lambda a, b: nn.Conv2d(a + 1, b, 1)))(
            torch.rand(2, 4, 2, 2)
        ),
        "^layer 1, Coupling: Given groups=1",
    ),
    "base of another batch, log_prob": (
        lambda: flow(FixedBase(1, 48, 2, 2)).log_prob(X, COND),
        r"Flow: expected a base of batch shape \(4,\) and event shape \(48, 2, 2\), got \(1,\)",
    ),
    "base of another batch, sample": (
        lambda: flow(FixedBase(1, 48, 2, 2)).sample(COND),
        r"Flow: expected a base of batch shape \(4,\), got \(1,\) with event shape \(48, 2, 2\)",
    ),
    "base of another shape, log_prob": (
        lambda: flow(StandardNormal((48, 3, 3))).log_prob(X, COND),
        r"Flow: expected noise of the base's shape \(48, 3, 3\), got \(48, 2, 2\) from the bij",
    ),
    "base of other channels, sample": (
        lambda: flow(StandardNormal((12, 2, 2))).sample(COND),
        r"Flow: expected noise that the bijection can take, got \(12, 2, 2\) from the base: "
        r"layer 1.1.1, Coupling: expected samples of shape \(48, \*S\), got \(12, 2, 2\)",
    ),
    "base of other channels, given": (
        lambda: flow(FixedBase(4, 12, 2, 2)).given(COND),
        r"Flow: expected noise that the bijection can take, got \(12, 2, 2\) from the base",
    ),
    "base and shape disagree": (
        lambda: flow(StandardNormal((48, 2, 2))).given(COND, shape=(3, 16, 16)),
        r"Flow: expected one shape \(C, \*S\) of the noise, got {'the base': \(48, 2, 2\), "
        r"'shape=\(3, 16, 16\)': \(48, 4, 4\)}",
    ),
    "a scale as a map": (
        lambda: Coupling(2, MLP, ExpScale()),
        r"expected an elementwise map such as Affine\(\), got ExpScale \(Affine\(ExpScale\(",
    ),
    "a net as a map": (
        lambda: Coupling(2, MLP, MLP(1, 1)),
        r"expected an elementwise map such as Affine\(\), got MLP \(it has no count\)",
    ),
    "ActNorm(0)": (lambda: ActNorm(0), "ActNorm: expected channels >= 1, got 0"),
    "ActNorm(2.0)": (lambda: ActNorm(2.0), "ActNorm: expected channels as an integer, got float"),
    "InvertibleLinear(0)": (lambda: InvertibleLinear(0), "expected channels >= 1, got 0"),
    "OnChannels(0)": (lambda: OnChannels(0, Flip()), "expected channels >= 1, got 0"),
    "Squeeze(1.5)": (
        lambda: Squeeze(1.5),
        "Squeeze: expected a factor of at least 1, or a tuple of such, got 1.5",
    ),
    "Permute([0, 0, 1])": (lambda: Permute([0, 0, 1]), "expected order to hold each of 0 … 2 once"),
    "own layer gives y alone, two samples": (
        lambda: Chain(Flip(), ValueAlone())(torch.rand(2, 4)),
        r"^layer 1, ValueAlone.forward: expected \(value, logdet\) back, got Tensor$",
    ),
    "own layer gives y alone, sample": (
        lambda: Flow(Chain(Flip(), Chain(ValueAlone()))).sample(shape=(2,)),
        r"^layer 1.0, ValueAlone.inverse: expected \(value, logdet\) back, got Tensor",
    ),
    "own layer alone gives y alone": (
        lambda: Flow(ValueAlone()).log_prob(torch.rand(2, 4)),
        r"^ValueAlone.forward: expected \(value, logdet\) back, got Tensor$",
    ),
    "own layer takes no cond": (
        lambda: Chain(Flip(), WithoutCond())(torch.rand(2, 4)),
        r"^layer 1, WithoutCond: .*forward\(\) takes 2 positional arguments but 3 were given$",
    ),
    "own layer in At takes no cond": (
        lambda: Chain(Flip(), At("a", WithoutCond()))(torch.rand(2, 4), {"a": X}),
        "^layer 1, WithoutCond: .*takes 2 positional arguments but 3 were given$",
    ),
    "own layer's log-det would broadcast": (
        lambda: Chain(Flip(), ColumnOfLogdets())(torch.rand(2, 4)),
        r"^layer 1, ColumnOfLogdets.forward: expected a log-determinant of shape \(2,\), one "
        r"number for each sample, got \(2, 1\)$",
    ),
    "own layer without inverse": (
        lambda: Flow(Chain(Flip(), ColumnOfLogdets())).sample(shape=(2,)),
        "^layer 1, ColumnOfLogdets: ColumnOfLogdets has no inverse",
    ),
    "own layer without forward": (
        lambda: Bijection()(torch.rand(2, 4)),
        "^Bijection has no forward$",
    ),
    "own layer without a way back": (
        lambda: Bijection().inverse(torch.rand(2, 4)),
        "^Bijection has no inverse$",
    ),
    "own net without an answer": (
        lambda: Conditioner()(torch.rand(2, 4)),
        "^Conditioner has neither forward nor respond$",
    ),
    "vectors of another length": (
        lambda: ActNorm(2)(torch.rand(5, 3)),
        r"ActNorm: expected input of shape \(B, 2, \*S\), got \(5, 3\)",
    ),
    "no axis for the batch": (
        lambda: Flow(ActNorm(2)).log_prob(torch.rand(2)),
        r"Flow: expected input of shape \(B, C, \*S\), got \(2,\)",
    ),
    "samples and conditions don't fit, given": (
        lambda: flow().given(COND, shape=(3, 8, 8)).log_prob(X[:3]),
        r"expected \(4, 3, 8, 8\) for 4 conditions, got \(3, 3, 8, 8\)",
    ),
    "too many temperatures": (
        lambda: flow().sample(COND, shape=(3, 8, 8), temperature=(1.0, 0.5)),
        "expected a temperature for each of 1 levels, got 2",
    ),
    "a temperature of another shape": (
        lambda: flow().sample(COND, shape=(3, 8, 8), temperature=torch.ones(7, 1, 1, 1)),
        r"expected a temperature that broadcasts to \(4, 48, 2, 2\), got one of shape \(7, 1, 1, 1",
    ),
    "noise for another batch": (
        lambda: flow().sample(COND, noise=torch.zeros(3, 48, 2, 2)),
        r"expected noise of shape \(4, 48, 2, 2\), got \(3, 48, 2, 2\)",
    ),
}


NUMBERS = {
    "Logit, alpha": Logit,
    "LeakyReLU, slope": LeakyReLU,
    "LOFT, threshold": LOFT,
    "Residual, lipschitz": lambda value: Residual(2, lipschitz=value),
    "Residual, tolerance": lambda value: Residual(2, tolerance=value),
    "RussianRoulette, stop": lambda value: RussianRoulette(stop=value),
    "ConvExponential, bound": lambda value: ConvExponential(2, bound=value),
    "LipschitzNet, lipschitz": lambda value: LipschitzNet(2, 2, lipschitz=value),
    "MixtureOfGaussians, spread": lambda value: MixtureOfGaussians(2, spread=value),
    "SinhArcsinh, skew": lambda value: SinhArcsinh(skew=value),
    "CubicRational, least": lambda value: CubicRational(least=value),
    "Bernstein, bound": lambda value: Bernstein(bound=value),
    "RationalQuadraticSpline, bound": lambda value: RationalQuadraticSpline(bound=value),
    "RationalQuadraticSpline, least": lambda value: RationalQuadraticSpline(least=value),
    "BoundedSpline, low": lambda value: BoundedSpline(low=value),
    "CircularSpline, high": lambda value: CircularSpline(high=value),
    "LogisticMixture, spread": lambda value: LogisticMixture(spread=value),
    "DeepSigmoid, least": lambda value: DeepSigmoid(least=value),
    "ExpScale, bound": ExpScale,
    "SigmoidScale, offset": SigmoidScale,
    "SoftplusScale, ceiling": lambda value: SoftplusScale(ceiling=value),
    "denoise, sigma": lambda value: denoise(flow(), X, value),
    "dropped, share": lambda value: dropped(X, value),
}


@pytest.mark.parametrize("place", NUMBERS)
@pytest.mark.parametrize("value", ["a", None, True])
def test_a_real_number_is_expected(place, value):
    who, name = place.split(", ")
    message = f"^{who}: expected {name} as a real number, got {type(value).__name__}$"
    with pytest.raises(TypeError, match=message):
        NUMBERS[place](value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_is_said(mistake):
    make, message = MISTAKES[mistake]
    with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
        make()


LEAST = {
    "ActNorm": lambda: ActNorm(1),
    "Autoregressive": lambda: Autoregressive(1),
    "Bernstein": lambda: Bernstein(1, bound=1e-3),
    "BoundedSpline": lambda: BoundedSpline(2, least=0.49),
    "ConvExponential": lambda: ConvExponential(1, width=1, axes=0, bound=1e-3),
    "Coupling": lambda: Coupling(2, MLP),
    "DeepSigmoid": lambda: DeepSigmoid(1, spread=0.0),
    "Dequantized": lambda: Dequantized(Flow(Chain()), 2),
    "Injector": lambda: Injector(1, MLP, cond_channels=1),
    "InvertibleLinear": lambda: InvertibleLinear(1),
    "LipschitzNet": lambda: LipschitzNet(1, 1, hidden=1, depth=1, lipschitz=1e-3),
    "LogisticMixture": lambda: LogisticMixture(1),
    "MADE": lambda: MADE(1, 1, hidden=1, depth=1),
    "MixtureOfGaussians": lambda: MixtureOfGaussians(1, 1, spread=0.0),
    "OnChannels": lambda: OnChannels(1, Flip()),
    "Permute": lambda: Permute([0]),
    "Pointwise": lambda: Pointwise(1),
    "RationalQuadraticSpline": lambda: RationalQuadraticSpline(2, bound=1e-3),
    "Residual": lambda: Residual(1, lipschitz=1e-3, tolerance=0.9),
    "RussianRoulette": lambda: RussianRoulette(probes=1, certain=0, stop=0.99),
    "Squeeze": lambda: Squeeze(1),
}


@pytest.mark.parametrize("kind", LEAST)
def test_the_least_that_makes_sense_is_taken(kind):
    assert type(LEAST[kind]()).__name__ == kind


def test_errors_say_their_place_once_however_often_they_are_raised():
    chain = Chain(Chain(Squeeze(), Chain(ActNorm(7))))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^layer 0.1.0, ActNorm: expected input"):
            chain(X)


def test_the_place_is_said_under_a_compiler_too():
    compiled = torch.compile(flow().bijection, backend="eager")
    torch.testing.assert_close(compiled(X, COND), compiled._orig_mod(X, COND))
    with pytest.raises(Exception, match=r"ActNorm: expected input of shape \(B, 12, \*S\)"):
        compiled(X[:, :1], COND)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_data_of_another_precision_works(dtype):
    log_prob = flow().log_prob(X.to(dtype), COND)
    assert log_prob.dtype == torch.promote_types(dtype, torch.float32)
    # The same numbers, rounded by 2⁻⁸ in bf16, through a flow that is nearly the identity.
    exact = flow().log_prob(X.to(dtype).double(), COND)
    torch.testing.assert_close(log_prob.double(), exact, rtol=1e-5, atol=1e-3)


def test_a_condition_in_float64_works():
    double = {key: entry.double() for key, entry in COND.items()}
    torch.testing.assert_close(flow().log_prob(X, double), flow().log_prob(X, COND))
    assert flow().sample(double, shape=(3, 8, 8)).dtype == torch.float32


def test_layout_does_not_matter():
    module = flow()
    expected = module.log_prob(X, COND)
    transposed = X.transpose(2, 3).contiguous().transpose(2, 3)
    for x in (transposed, X.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(module.log_prob(x, COND), expected)
    same = X[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(module.log_prob(same, COND), module.log_prob(same.clone(), COND))


def test_before_initialisation_actnorm_is_the_identity_and_says_so():
    assert ActNorm(3)(X)[0].equal(X)
    assert "before\n    that the layer is the identity" in ActNorm.__doc__


@pytest.mark.parametrize("net", [ConvNet, ResNet, Transformer, MaskedConv, LipschitzNet])
def test_a_net_says_that_a_sample_has_no_place(net):
    who = f"{net.__name__}: expected samples with at least one place, got"
    with pytest.raises(ValueError, match=who):
        ask(net(4, 4, axes=1), torch.zeros(2, 4, 0))


def test_a_flow_says_that_a_sample_has_no_place():
    flow = Flow(ActNorm(4))
    with pytest.raises(ValueError, match=r"Flow: .* at least one place, got \(2, 4, 0\)"):
        flow.log_prob(torch.zeros(2, 4, 0))
    with pytest.raises(ValueError, match=r"Flow: expected shape=.* of sizes >= 1, got \(4, 0\)"):
        flow.sample(shape=(4, 0))
    layer = TokenAutoregressive(4, partial(CausalTransformer, axes=1), cond_channels=2)
    with pytest.raises(ValueError, match=r"Transformer: expected at least one place, got .*\(0,\)"):
        layer(torch.randn(2, 4, 3), torch.randn(2, 2, 0))
