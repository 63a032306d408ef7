"""Layers with one planted defect each, and sound ones: what the checks are tested with."""

import math
import threading

import torch
from torch import nn
from torch.distributions import constraints
from torch.nn import functional as F

from flowkit import (
    Bijection,
    Example,
    InvertibleLinear,
    along_channels,
    ask,
    positions,
    same_logdet,
    sum_logdet,
    wide,
    zero_logdet,
)
from flowkit.contract import Given, frozen, repeated
from flowkit.ops import linear_map


class Sound(Bijection):
    """y = x·exp(log_scale) + gain·cond, per channel."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2))
        self.gain = nn.Parameter(torch.ones(2))

    def forward(self, x, cond=None):
        return x * self.scale(x) + self.shift(x, cond), self.logdet(x)

    def inverse(self, y, cond=None):
        return (y - self.shift(y, cond)) / self.scale(y), -self.logdet(y)

    def scale(self, x):
        return along_channels(self.log_scale.to(x.dtype), x).exp()

    def logdet(self, x):
        return same_logdet(x, positions(x) * self.log_scale.to(wide(x).dtype).sum())

    def shift(self, x, cond):
        if cond is None:
            raise ValueError("a condition is needed")
        return along_channels(self.gain.to(x.dtype), x) * cond

    def shape(self, shape, *, inverse=False):
        if shape[0] != 2:
            raise ValueError("two channels are needed")
        return shape

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3), (2, 2, 3))]


class SoundUnconditional(Sound):
    conditional = False

    def shift(self, x, cond):
        return along_channels(self.gain.to(x.dtype), x)

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 2))]


class LogdetSign(Sound):
    def logdet(self, x):
        return -super().logdet(x)


class LogdetWithoutArea(Sound):
    def logdet(self, x):
        return super().logdet(x) / positions(x)


class LogdetOfOneChannel(SoundUnconditional):
    """The mean over the channels in place of the sum, negated."""

    def logdet(self, x):
        return -super().logdet(x) / 2


class LogdetDoubled(Sound):
    def logdet(self, x):
        return 2 * super().logdet(x)


class LogdetOffset(Sound):
    def logdet(self, x):
        return super().logdet(x) + 1e-3


class LogdetForgotten(Sound):
    def logdet(self, x):
        return zero_logdet(x)


class SquareOnly(SoundUnconditional):
    """H² in place of H·W, on a square example."""

    def logdet(self, x):
        return super().logdet(x) * x.shape[2] / x.shape[3]


class LogdetOfInverseOnly(Sound):
    """forward is right, so only the other direction's Jacobian tells."""

    def inverse(self, y, cond=None):
        return super().inverse(y, cond)[0], 2 * -self.logdet(y)


class InverseLogdetNotNegated(Sound):
    def inverse(self, y, cond=None):
        x, logdet = super().inverse(y, cond)
        return x, -logdet


class WrongInverse(Sound):
    def inverse(self, y, cond=None):
        return y / self.scale(y) - self.shift(y, cond), -self.logdet(y)


class NotOnto(Bijection):
    """inverse(forward(x)) = x, but what lies below 0 is never reached."""

    conditional = False

    def forward(self, x, cond=None):
        return F.softplus(x), sum_logdet(F.logsigmoid(x))

    def inverse(self, y, cond=None):
        x = y + torch.log(-torch.expm1(-y))
        return x, -sum_logdet(F.logsigmoid(x))

    @classmethod
    def examples(cls):
        return [Example(cls, (1,))]


class BatchLeak(Sound):
    def shift(self, x, cond):
        shift = super().shift(x, cond)
        return shift - shift.mean(dim=0)


class BatchLeakOfLogdet(Sound):
    def logdet(self, x):
        return super().logdet(x) + x.mean()


class PlaceInBatch(Sound):
    """Each sample is independent of the others, but not of where it stands."""

    def logdet(self, x):
        return super().logdet(x) + torch.arange(len(x))


class EmptyBatchFails(Sound):
    def logdet(self, x):
        return super().logdet(x) + 0 * x.reshape(len(x), -1).amax(1).to(wide(x).dtype)


class LogdetNotPerSample(Sound):
    def logdet(self, x):
        return super().logdet(x).sum()


class LogdetBelowInput(Sound):
    def logdet(self, x):
        return super().logdet(x).float()


class ValueBelowInput(Sound):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x, cond)
        return y.float(), logdet


class ValueReshaped(Sound):
    def inverse(self, y, cond=None):
        x, logdet = super().inverse(y, cond)
        return x.flatten(1), logdet


class ShapeForetoldWrong(Sound):
    def shape(self, shape, *, inverse=False):
        return 4 * shape[0], *shape[1:]


class ShapeRefusesNothing(SoundUnconditional):
    def shape(self, shape, *, inverse=False):
        return shape


class ReadsMemory(Sound):
    """Takes the samples for contiguous."""

    def logdet(self, x):
        return super().logdet(x) + 0 * x.view(len(x), -1).sum(1)


class NoLogdet(Sound):
    def forward(self, x, cond=None):
        return super().forward(x, cond)[0]


class NoInverse(Bijection):
    def forward(self, x, cond=None):
        return x, zero_logdet(x)

    @classmethod
    def examples(cls):
        return [Example(cls, (2,))]


class NoCond(NoInverse):
    def forward(self, x):
        return x, zero_logdet(x)

    inverse = forward


class NoSuperInit(NoInverse):
    def __init__(self):
        self.factor = 2.0


class LogdetDetached(Sound):
    def logdet(self, x):
        return super().logdet(x).detach()


class GradientCut(Sound):
    def shift(self, x, cond):
        gain = along_channels(self.gain.to(x.dtype), x)
        return super().shift(x, cond) + 0.1 * gain.detach() * gain


class UnusedParameter(Sound):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class ConditionIgnored(Sound):
    def shift(self, x, cond):
        return 0 * super().shift(x, cond) + along_channels(self.gain.to(x.dtype), x)


class OneEntryIgnored(Sound):
    def shift(self, x, cond):
        return super().shift(x, None if cond is None else cond["used"])

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3), {"used": (2, 2, 3), "idle": (2, 2, 3)})]


class MissingConditionAccepted(Sound):
    def shift(self, x, cond):
        return along_channels(self.gain, x) if cond is None else super().shift(x, cond)


class MissingConditionCrashes(Sound):
    def shift(self, x, cond):
        return along_channels(self.gain.to(x.dtype), x) * cond.to(x.dtype)


class SaysItNeedsNoCondition(Sound):
    conditional = False


class UndeclaredConditionUsed(SoundUnconditional):
    def shift(self, x, cond):
        gain = along_channels(self.gain.to(x.dtype), x)
        return gain if not isinstance(cond, torch.Tensor) else cond.mean() * gain


class LogdetRoundedToBfloat16(Sound):
    """float32 at the end, as the contract says, but bfloat16 on the way."""

    def logdet(self, x):
        total = self.log_scale.sum()
        if x.dtype == torch.float32:
            total = total.bfloat16()
        return same_logdet(x, positions(x) * total.to(wide(x).dtype))


class LatentUnderAutocast(SoundUnconditional):
    """Mixes channels by a product that autocast runs in bfloat16."""

    def forward(self, x, cond=None):
        weight = torch.diag(self.log_scale.exp()).to(x.dtype)
        mixed = F.conv2d(x, weight[:, :, None, None])
        return mixed + self.shift(x, cond), self.logdet(x)


class Overflows(Bijection):
    """y = x + log(1 + eˣ), written such that it overflows."""

    conditional = False

    def forward(self, x, cond=None):
        return x + torch.log(1 + x.exp()), sum_logdet(torch.log1p(torch.sigmoid(x)))

    def inverse(self, y, cond=None):
        x = y - torch.log((1 + torch.sqrt(1 + 4 * y.exp())) / 2)
        return x, -sum_logdet(torch.log1p(torch.sigmoid(x)))

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3))]


class SwallowsNaN(Sound):
    def forward(self, x, cond=None):
        return super().forward(x.nan_to_num(), cond)


class LogdetExpanded(Sound):
    def logdet(self, x):
        return (positions(x) * self.log_scale.to(wide(x).dtype).sum()).expand(len(x))


class LogdetIsABuffer(SoundUnconditional):
    """A log-det that the caller adds to is the layer's own."""

    def __init__(self):
        super().__init__()
        self.log_scale.requires_grad_(False)
        self.remembered = {}

    def logdet(self, x):
        key = len(x), x.shape, x.dtype
        if key not in self.remembered:
            self.remembered[key] = super().logdet(x)
        return self.remembered[key]

    def inverse(self, y, cond=None):
        return (y - self.shift(y, cond)) / self.scale(y), -self.logdet(y)


class GraphBreak(Sound):
    def logdet(self, x):
        return super().logdet(x) * (1.0 if self.log_scale.sum().item() < 100 else 2.0)


class NumPyOnTheWay(SoundUnconditional):
    """Right for numbers, and nothing that a graph can be made of."""

    def logdet(self, x):
        if not torch.compiler.is_exporting():
            return super().logdet(x)
        return super().logdet(x) + float(x.detach().sum().numpy() * 0)


class OutsideStateDict(Sound):
    def __init__(self):
        super().__init__()
        self.fixed_shift = torch.randn(2)

    def shift(self, x, cond):
        return super().shift(x, cond) + along_channels(self.fixed_shift.to(x.dtype), x)


class TiedToOriginal(Sound):
    """A deep copy keeps the function, which keeps the original's parameter."""

    def __init__(self):
        super().__init__()
        self.factor = lambda: self.gain

    def shift(self, x, cond):
        return super().shift(x, cond) * along_channels(self.factor().to(x.dtype), x)


class ColumnMajor(Sound):
    def __init__(self):
        super().__init__()
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).T)


class HoldsALock(Sound):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class CachedInverse(InvertibleLinear):
    """W is inverted once and for ever."""

    def inverse(self, y, cond=None):
        if not hasattr(self, "_inverse"):
            self._inverse = self.weight.inverse().detach()
        return linear_map(y, self._inverse), -self._logdet(y)

    @classmethod
    def examples(cls):
        return [Example(lambda: cls(3), (3, 2, 3))]


class CachedScale(SoundUnconditional):
    """exp(log_scale) is worked out once and for ever, without gradient."""

    def scale(self, x):
        if not hasattr(self, "_scale"):
            self._scale = self.log_scale.detach().double().exp()
        return along_channels(self._scale.to(x.dtype), x)


class KeyedByVersion(SoundUnconditional):
    """exp(log_scale) is worked out anew when the version counts on, which .data doesn't do."""

    def scale(self, x):
        if getattr(self, "_key", None) != (self.log_scale._version, x.dtype):
            self._key = self.log_scale._version, x.dtype
            self._scale = self.log_scale.to(x.dtype).exp()
        with_gradient = self.log_scale.to(x.dtype).exp()
        kept = self._scale.detach() + with_gradient - with_gradient.detach()
        return along_channels(kept, x)


class GivenShift(Given):
    """`Sound` whose shift is done."""

    def __init__(self, layer, cond, shift):
        super().__init__(layer, cond)
        self.shift = shift

    def forward(self, x, cond=None):
        return x * self.bijection.scale(x) + self.done(x), self.bijection.logdet(x)

    def inverse(self, y, cond=None):
        return (y - self.done(y)) / self.bijection.scale(y), -self.bijection.logdet(y)

    def done(self, x):
        return repeated(self.bijection, self.shift, x)


class GivenWrong(Sound):
    def given(self, cond):
        return GivenShift(self, cond, 2 * self.shift(cond, cond))


class GivenWithoutGradient(Sound):
    """Training through flow.given(cond) wouldn't train it."""

    @torch.no_grad()
    def given(self, cond):
        return GivenShift(self, cond, self.shift(cond, cond))


class GivenDetachesCondition(Sound):
    def given(self, cond):
        return Given(self, cond.detach())


class GivenStale(Sound):
    """The shift of the parameters that were, the scale of those that are."""

    def given(self, cond):
        return GivenShift(self, cond, self.shift(cond, cond))


class GivenOnce(Sound):
    def given(self, cond):
        return _Once(self, cond)


class _Once(Given):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x, cond)
        self.cond = self.cond + 1
        return y, logdet


class GivenNeighbours(Sound):
    """Samples of one condition are taken to stand next to one another."""

    def given(self, cond):
        return _Neighbours(self, cond, self.shift(cond, cond))


class _Neighbours(GivenShift):
    def done(self, x):
        return self.shift.repeat_interleave(len(x) // len(self.shift), dim=0)


class GivenAnyNumber(Sound):
    """Three samples under two conditions: the first condition for the third."""

    def given(self, cond):
        return _AnyNumber(self, cond, self.shift(cond, cond))


class _AnyNumber(GivenShift):
    def done(self, x):
        return self.shift[torch.arange(len(x)) % len(self.shift)]


class GivenNothing(Sound):
    def given(self, cond):
        return None


class FoldWrong(Sound):
    def fold(self):
        folded = frozen(self)
        with torch.no_grad():
            folded.log_scale.zero_()
        return folded


class FoldStillLearning(Sound):
    def fold(self):
        return frozen(self).requires_grad_(True)


class FoldShared(Sound):
    def fold(self):
        folded = frozen(self)
        folded.gain = nn.Parameter(self.gain.data, requires_grad=False)
        return folded


class FoldInPlace(Sound):
    def fold(self):
        folded = frozen(self)
        with torch.no_grad():
            self.gain.zero_()
        return folded


class FoldRoundedApart(SoundUnconditional):
    """The folded scale and its logarithm are constants of their own."""

    def fold(self):
        return _Constants(self)


class _Constants(SoundUnconditional):
    def __init__(self, layer):
        super().__init__()
        constants = layer.log_scale.exp(), layer.gain, layer.log_scale.sum()
        for name, value in zip(("_scale", "gain", "_logdet"), constants, strict=True):
            delattr(self, name) if hasattr(self, name) else None
            self.register_buffer(name, value.detach().clone())
        del self.log_scale

    def scale(self, x):
        return along_channels(self._scale.to(x.dtype), x)

    def logdet(self, x):
        return same_logdet(x, positions(x) * self._logdet)


class ElsewhereWithoutGradients(Sound):
    """Gives something else where autograd keeps no records, and Reversible runs it there."""

    def shift(self, x, cond):
        shift = super().shift(x, cond)
        return shift if torch.is_grad_enabled() else 1.1 * shift


class InputModified(Sound):
    def forward(self, x, cond=None):
        y = x.detach().mul_(self.scale(x)) if not x.requires_grad else x
        return y + self.shift(x, cond), self.logdet(x)


class ConditionModified(Sound):
    def inverse(self, y, cond=None):
        result = super().inverse(y, cond)
        with torch.no_grad():
            cond.zero_()
        return result


class StateChanged(Sound):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, cond=None):
        if self.training:
            self.calls += 1
        return super().forward(x, cond)


class InitializedBesideBefore(SoundUnconditional):
    """Initialisation forgets one of two parameters, which stays as it was."""

    @torch.no_grad()
    def initialize_from(self, x):
        self.log_scale.copy_(-x.transpose(0, 1).flatten(1).std(1).log())


class InitializedFurther(SoundUnconditional):
    """A second initialisation goes on from the first."""

    @torch.no_grad()
    def initialize_from(self, x):
        self.gain.zero_()
        self.log_scale.sub_(x.transpose(0, 1).flatten(1).std(1).log())


class InitializedByFirstBatch(Sound):
    """ActNorm as it is often written: the first forward sets the scale."""

    def __init__(self):
        super().__init__()
        self.register_buffer("done", torch.tensor(False))

    def forward(self, x, cond=None):
        if not self.done:
            self.log_scale.data = -x.std(dim=(0, 2, 3)).log()
            self.done.fill_(True)
        return super().forward(x, cond)


class Noisy(Sound):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x, cond)
        return y + 1e-3 * torch.randn_like(y), logdet


class Log(Bijection):
    """y = log x: its domain isn't ℝ."""

    conditional = False

    def forward(self, x, cond=None):
        return x.log(), -sum_logdet(x.log())

    def inverse(self, y, cond=None):
        return y.exp(), sum_logdet(y)

    @classmethod
    def examples(cls):
        return [
            Example(cls, (2, 3), domain=constraints.positive, name="sequences"),
            Example(cls, (2,), domain=constraints.positive, name="vectors"),
        ]


class Sigmoid(Bijection):
    """y = sigmoid(x): its codomain isn't ℝ."""

    conditional = False

    def forward(self, x, cond=None):
        return x.sigmoid(), sum_logdet(F.logsigmoid(x) + F.logsigmoid(-x))

    def inverse(self, y, cond=None):
        return torch.logit(y), -sum_logdet(y.log() + torch.log1p(-y))

    @classmethod
    def examples(cls):
        return [Example(cls, (1,), codomain=constraints.unit_interval)]


class Numerical(Bijection):
    """y = x + sin(x)/2, whose inverse is found by a few steps of Newton's."""

    conditional = False

    def forward(self, x, cond=None):
        return x + x.sin() / 2, sum_logdet((1 + x.cos() / 2).log())

    def inverse(self, y, cond=None):
        x = y
        with torch.no_grad():
            for _ in range(60):
                x = y - x.sin() / 2  # a contraction by 1/2 at least
        x = x - (x + x.sin() / 2 - y) / (1 + x.cos() / 2).detach()
        return x, -self.forward(x)[1]

    @classmethod
    def examples(cls):
        return [Example(cls, (2,), tolerance=1e-5)]


class LeakyReLU(Bijection):
    """As somebody new would write it."""

    def forward(self, x, cond=None):
        log_slope = torch.where(x > 0, torch.zeros_like(x), torch.full_like(x, math.log(0.1)))
        return F.leaky_relu(x, 0.1), sum_logdet(log_slope)

    def inverse(self, y, cond=None):
        log_slope = torch.where(y > 0, torch.zeros_like(y), torch.full_like(y, -math.log(0.1)))
        return F.leaky_relu(y, 10), sum_logdet(log_slope)

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 4, 4)), Example(cls, (2,))]


class LeakyReLUInFloat32(LeakyReLU):
    """`torch.where` of two numbers is float32, whatever the input is."""

    def forward(self, x, cond=None):
        slope = torch.where(x > 0, 1.0, 0.1)
        return x * slope, sum_logdet(slope.log())


class ScalePerChannel(Bijection):
    """As somebody new would write it."""

    def __init__(self, channels):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x, cond=None):
        log_scale = along_channels(self.log_scale, x)
        return x * log_scale.exp(), sum_logdet(log_scale + 0 * x)

    def inverse(self, y, cond=None):
        log_scale = along_channels(self.log_scale, y)
        return y * (-log_scale).exp(), sum_logdet(-log_scale + 0 * y)

    @classmethod
    def examples(cls):
        return [Example(lambda: cls(3), (3, 2, 3))]


class OneSize(Bijection):
    """As somebody new would write it: a shift for every element, and so for one size."""

    def __init__(self, *shape):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x, cond=None):
        return x + self.bias, zero_logdet(x)

    def inverse(self, y, cond=None):
        return y - self.bias, zero_logdet(y)

    @classmethod
    def examples(cls):
        return [Example(lambda: cls(2, 2, 3), (2, 2, 3))]


class StopsTooEarly(Sound):
    """Found by rounds that end before nothing moves any more."""

    parallel = 1e-3

    def inverse(self, y, cond=None):
        x, logdet = super().inverse(y, cond)
        return (x, logdet) if self.parallel is None else (x * (1 + 1e-6), logdet)


class OwnCoupling(Bijection):
    """As somebody new would write it, with a plain net and a scale without bounds."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x, cond=None):
        kept, changed = x.chunk(2, 1)
        shift, log_scale = self.numbers(kept)
        return torch.cat([kept, changed * log_scale.exp() + shift], 1), sum_logdet(log_scale)

    def inverse(self, y, cond=None):
        kept, changed = y.chunk(2, 1)
        shift, log_scale = self.numbers(kept)
        return torch.cat([kept, (changed - shift) * (-log_scale).exp()], 1), -sum_logdet(log_scale)

    def numbers(self, kept):
        return wide(ask(self.net, kept)).chunk(2, 1)

    @classmethod
    def examples(cls):
        return [Example(cls, (2,))]


class PlainCoupling(OwnCoupling):
    """Without a helper around the net, which under autocast leaves it in bfloat16."""

    def numbers(self, kept):
        return self.net(kept).chunk(2, 1)
