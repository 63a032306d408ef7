"""The checks themselves: layers with one planted defect each, and the check that must find it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from flowkit import Bijection, Example, Prepared
from flowkit.testing import (
    all_checks,
    all_examples,
    all_layers,
    check_bijection,
    check_compiles,
    check_condition,
    check_copies,
    check_fold,
    check_gradients,
    check_independent_samples,
    check_logdet,
    check_low_precision,
    check_prepare,
    check_pure,
    check_reversible,
    check_round_trip,
    check_shapes,
    parametrize_with_checks,
)
from flowkit.testing.draws import over_draws

pytest_plugins = "pytester"


class Sound(Bijection):
    """y = x·exp(log_scale) + gain·cond, per channel."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(2, 1, 1))
        self.gain = nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, x, cond=None):
        return x * self.log_scale.exp() + self.shift(cond), self.logdet(x)

    def inverse(self, y, cond=None):
        return (y - self.shift(cond)) * (-self.log_scale).exp(), -self.logdet(y)

    def logdet(self, x):
        log_scale = self.log_scale.to(torch.promote_types(x.dtype, torch.float32))
        return (x.shape[2] * x.shape[3] * log_scale.sum()).expand(len(x))

    def shift(self, cond):
        prepared = self.prepared(cond)
        if prepared is not None:
            return prepared
        if cond is None:
            raise ValueError("a condition is needed")
        return self.gain * cond

    def prepare(self, cond):
        return Prepared(self, self.shift(cond))

    def fold(self):
        folded = type(self)().to(self.gain.dtype)
        folded.load_state_dict(self.state_dict())
        return folded.requires_grad_(False)

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3), (2, 2, 3))]


class SoundUnconditional(Sound):
    def shift(self, cond):
        return self.gain

    def prepare(self, cond):
        return cond

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3))]


class LogdetSign(Sound):
    def logdet(self, x):
        return -super().logdet(x)


class LogdetWithoutArea(Sound):
    def logdet(self, x):
        return super().logdet(x) / (x.shape[2] * x.shape[3])


class LogdetDoubled(Sound):
    def logdet(self, x):
        return 2 * super().logdet(x)


class LogdetOffset(Sound):
    def logdet(self, x):
        return super().logdet(x) + 1e-3


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
        return y * (-self.log_scale).exp() - self.shift(cond), -self.logdet(y)


class NotOnto(Sound):
    """inverse(forward(x)) = x, but what lies below 0 is never reached."""

    def forward(self, x, cond=None):
        return F.softplus(x), F.logsigmoid(x).sum(dim=(1, 2, 3))

    def inverse(self, y, cond=None):
        x = y + torch.log(-torch.expm1(-y))
        return x, -F.logsigmoid(x).sum(dim=(1, 2, 3))


class BatchLeak(Sound):
    def shift(self, cond):
        shift = super().shift(cond)
        return shift - shift.mean(dim=0)


class PlaceInBatch(Sound):
    """Each sample is independent of the others, but not of where it stands."""

    def logdet(self, x):
        return super().logdet(x) + torch.arange(len(x))


class LogdetNotPerSample(Sound):
    def logdet(self, x):
        return super().logdet(x)[0]


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
    def forward_shape(self, shape):
        return 4 * shape[0], *shape[1:]


class NoLogdet(Sound):
    def forward(self, x, cond=None):
        return super().forward(x, cond)[0]


class LogdetDetached(Sound):
    def logdet(self, x):
        return super().logdet(x).detach()


class GradientCut(Sound):
    def shift(self, cond):
        return super().shift(cond) + 0.1 * self.gain.detach() * self.gain


class UnusedParameter(Sound):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class ConditionIgnored(Sound):
    def shift(self, cond):
        return 0 * super().shift(cond) + self.gain


class OneEntryIgnored(Sound):
    def shift(self, cond):
        return super().shift(None if cond is None else cond["used"])

    def prepare(self, cond):
        return cond

    @classmethod
    def examples(cls):
        return [Example(cls, (2, 2, 3), {"used": (2, 2, 3), "idle": (2, 2, 3)})]


class MissingConditionAccepted(Sound):
    def shift(self, cond):
        return self.gain if cond is None else super().shift(cond)


class MissingConditionCrashes(Sound):
    def shift(self, cond):
        return self.gain * cond.to(self.gain.dtype)


class UndeclaredConditionUsed(SoundUnconditional):
    def shift(self, cond):
        return self.gain if not isinstance(cond, torch.Tensor) else cond.mean() * self.gain


class LogdetInBfloat16(Sound):
    def logdet(self, x):
        return (x.shape[2] * x.shape[3] * self.log_scale.to(x.dtype).sum()).expand(len(x))


class LogdetRoundedToBfloat16(Sound):
    """float32 at the end, as the contract says, but bfloat16 on the way."""

    def logdet(self, x):
        rounded = self.log_scale.to(x.dtype).sum().to(torch.promote_types(x.dtype, torch.float32))
        return (x.shape[2] * x.shape[3] * rounded).expand(len(x))


class LatentUnderAutocast(SoundUnconditional):
    """Mixes channels by a convolution, which autocast runs in bfloat16."""

    def forward(self, x, cond=None):
        weight = torch.diag(self.log_scale.exp().flatten()).to(x.dtype)
        mixed = F.conv2d(x, weight[:, :, None, None])
        return mixed + self.shift(cond), self.logdet(x)


class GraphBreak(Sound):
    def logdet(self, x):
        return super().logdet(x) * (1.0 if self.log_scale.sum().item() < 100 else 2.0)


class OutsideStateDict(Sound):
    def __init__(self):
        super().__init__()
        self.fixed_shift = torch.randn(2, 1, 1)

    def shift(self, cond):
        return super().shift(cond) + self.fixed_shift.to(self.gain.dtype)


class TiedToOriginal(Sound):
    """A deep copy keeps the function, which keeps the original's parameter."""

    def __init__(self):
        super().__init__()
        self.factor = lambda: self.gain

    def shift(self, cond):
        return super().shift(cond) * self.factor()


class PrepareWrong(Sound):
    def prepare(self, cond):
        return Prepared(self, 2 * self.shift(cond))


class PreparedOnce(Sound):
    def shift(self, cond):
        shift = super().shift(cond)
        if isinstance(cond, Prepared):
            cond.value.mul_(2)
            return shift / 2
        return shift


class FoldWrong(Sound):
    def fold(self):
        folded = super().fold()
        folded.log_scale.zero_()
        return folded


class FoldStillLearning(Sound):
    def fold(self):
        return super().fold().requires_grad_(True)


class FoldShared(Sound):
    def fold(self):
        folded = super().fold()
        folded.gain = nn.Parameter(self.gain.data, requires_grad=False)
        return folded


class FoldInPlace(Sound):
    def fold(self):
        folded = super().fold()
        with torch.no_grad():
            self.gain.zero_()
        return folded


class RetraceElsewhere(Sound):
    """Goes back to another x, so the gradients of a layer before or of itself are taken there."""

    def retrace(self, y, cond=None, *, inverse=False):
        return super().retrace(1.1 * y, cond, inverse=inverse)


class RetraceWithoutCondition(Sound):
    """Cuts the condition off the graph that the gradients are taken from."""

    def retrace(self, y, cond=None, *, inverse=False):
        return super().retrace(y, cond.detach(), inverse=inverse)


class InputModified(Sound):
    def forward(self, x, cond=None):
        y = x.detach().mul_(self.log_scale.exp()) if not x.requires_grad else x
        return y + self.shift(cond), self.logdet(x)


class ConditionModified(Sound):
    def inverse(self, y, cond=None):
        result = super().inverse(y, cond)
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


class InitializedByFirstBatch(Sound):
    """ActNorm as it is often written: the first forward sets the scale."""

    def __init__(self):
        super().__init__()
        self.register_buffer("done", torch.tensor(False))

    def forward(self, x, cond=None):
        if not self.done:
            self.log_scale.data = -x.std(dim=(0, 2, 3), keepdim=True)[0].log()
            self.done.fill_(True)
        return super().forward(x, cond)


class Noisy(Sound):
    def forward(self, x, cond=None):
        y, logdet = super().forward(x, cond)
        return y + 1e-3 * torch.randn_like(y), logdet


DEFECTS = [
    (LogdetNotPerSample, check_shapes, r"forward: expected a log-det of shape"),
    (LogdetBelowInput, check_shapes, r"forward: expected a log-det for torch.float64 input"),
    (ValueBelowInput, check_shapes, r"forward: expected a value of torch.float64"),
    (ValueReshaped, check_shapes, r"inverse: expected a value of shape .*\[2, 2, 2, 3\]"),
    (ShapeForetoldWrong, check_shapes, r"expected forward_shape, inverse_shape .*got \(\(8, 2, 3"),
    (NoLogdet, check_shapes, r"forward: expected \(value, logdet\)"),
    (WrongInverse, check_round_trip, r"inverse: expected to undo forward"),
    (NotOnto, check_round_trip, r"forward: expected to undo inverse"),
    (InverseLogdetNotNegated, check_round_trip, r"inverse: expected minus the log-det"),
    (LogdetSign, check_logdet, r"forward: expected the log-det of the Jacobian"),
    (LogdetWithoutArea, check_logdet, r"forward: expected the log-det of the Jacobian"),
    (LogdetDoubled, check_logdet, r"forward: expected the log-det of the Jacobian"),
    (LogdetOffset, check_logdet, r"forward: expected the log-det of the Jacobian"),
    (LogdetOfInverseOnly, check_logdet, r"inverse: expected the log-det of the Jacobian"),
    (BatchLeak, check_independent_samples, r"forward: expected each sample as if alone"),
    (PlaceInBatch, check_independent_samples, r"forward: expected each log-det as if alone"),
    (LogdetDetached, check_gradients, r"forward: expected gradients that agree"),
    (GradientCut, check_gradients, r"forward: expected gradients that agree"),
    (UnusedParameter, check_gradients, r"forward: expected a gradient for .*\['unused'\]"),
    (ConditionIgnored, check_condition, r"forward: expected the condition to change"),
    (OneEntryIgnored, check_condition, r"forward: expected the condition's entry 'idle'"),
    (MissingConditionAccepted, check_condition, r"forward: expected a missing condition to be"),
    (MissingConditionCrashes, check_condition, r"expected a ValueError for a missing .*Attribute"),
    (UndeclaredConditionUsed, check_condition, r"forward, given a condition it has no use for"),
    (LogdetInBfloat16, check_low_precision, r"expected a log-det for torch.bfloat16 input, dtype"),
    (
        LogdetRoundedToBfloat16,
        check_low_precision,
        r"for torch.bfloat16 input the log-det of float",
    ),
    (LatentUnderAutocast, check_low_precision, r"is the latent path in bfloat16"),
    (GraphBreak, check_compiles, r"forward: expected torch.compile\(fullgraph=True\) to take it"),
    (OutsideStateDict, check_copies, r"forward, after state_dict: expected the identical value"),
    (TiedToOriginal, check_copies, r"forward, after deepcopy: expected the identical value"),
    (PrepareWrong, check_prepare, r"forward, with prepare\(cond\),: expected the same value"),
    (PreparedOnce, check_prepare, r"forward, with prepare\(cond\),: expected the same value"),
    (RetraceElsewhere, check_reversible, r"nothing kept,: expected gradient \d"),
    (RetraceWithoutCondition, check_reversible, r"nothing kept,: expected gradient 1"),
    (FoldWrong, check_fold, r"forward, folded,: expected the same value"),
    (FoldStillLearning, check_fold, r"fold: expected parameters that need a gradient \[\], got"),
    (FoldShared, check_fold, r"folded, after the layer changed"),
    (
        FoldInPlace,
        check_fold,
        r"fold: expected the layer's state unchanged, got another \['gain'\]",
    ),
    (InputModified, check_pure, r"forward: expected its input unchanged"),
    (ConditionModified, check_pure, r"inverse: expected the condition unchanged"),
    (StateChanged, check_pure, r"forward: expected the layer's state unchanged.*\['calls'\]"),
    (InitializedByFirstBatch, check_pure, r"forward: expected the layer's state unchanged"),
    (Noisy, check_pure, r"forward, called again: expected the identical value"),
]


@parametrize_with_checks([Sound, SoundUnconditional])
def test_sound_layers_pass(check):
    check()


@pytest.mark.parametrize(
    ("layer", "check", "message"), DEFECTS, ids=[layer.__name__ for layer, _, _ in DEFECTS]
)
def test_defect_is_found_by_its_check(layer, check, message):
    (example,) = layer.examples()
    with pytest.raises(AssertionError, match=rf"{layer.__name__}.*{message}"):
        check(example)


@pytest.mark.parametrize("layer", [LogdetSign, LogdetWithoutArea, LogdetDoubled, LogdetOffset])
def test_only_the_jacobian_finds_a_log_det_that_is_wrong_both_ways(layer):
    (example,) = layer.examples()
    for check in all_checks():
        if check is not check_logdet:
            check(example)
    with pytest.raises(AssertionError, match="log-det of the Jacobian"):
        check_logdet(example)


def test_every_check_finds_a_defect():
    assert {check for _, check, _ in DEFECTS} == set(all_checks())


def test_check_bijection_runs_every_check_on_every_example():
    check_bijection(Sound)
    with pytest.raises(AssertionError, match="log-det of the Jacobian"):
        check_bijection(LogdetSign)
    with pytest.raises(AssertionError, match="expected the layer's state unchanged"):
        check_bijection(StateChanged.examples()[0])


def test_draws_vary_and_repeat():
    def draws():
        seen = []
        over_draws()(lambda example, draw: seen.append(draw))(Sound.examples()[0])
        return seen

    first = draws()
    assert first == draws()
    assert {draw.batch for draw in first} == {1, 2, 3}
    assert len({draw.seed for draw in first}) > 2
    assert len({draw.scale for draw in first}) > 1


class Unlisted(Sound):
    @classmethod
    def examples(cls):
        return []


def test_layer_without_examples_fails_by_name():
    (case,) = parametrize_with_checks([Unlisted]).args[1]
    assert case.id == "Unlisted-examples"
    with pytest.raises(AssertionError, match=r"Unlisted: expected examples\(\) to give"):
        case.values[0]()
    with pytest.raises(AssertionError, match=r"Unlisted: expected examples\(\) to give"):
        check_bijection(Unlisted)


class BuildsItsParent(Sound):
    @classmethod
    def examples(cls):
        return [Example(Sound, (2, 2, 3), (2, 2, 3))]


def test_examples_that_build_another_class_fail():
    case = parametrize_with_checks([BuildsItsParent]).args[1][0]
    with pytest.raises(AssertionError, match=r"BuildsItsParent: expected .* got Sound"):
        case.values[0]()


def test_examples_that_share_a_layer_fail():
    shared = Sound()
    with pytest.raises(AssertionError, match=r"Sound: expected build\(\) to make a fresh layer"):
        check_shapes(Example(lambda: shared, (2, 2, 3), (2, 2, 3)))


LAYERS = """
from flowkit import Bijection, Squeeze

class Listed(Bijection):
    def forward(self, x, cond=None):
        return x, x.new_zeros(len(x))

    inverse = forward

class Base(Bijection):
    pass

class _Private(Listed):
    pass
"""


def test_layers_are_found_by_walking_the_package(tmp_path, monkeypatch):
    package = tmp_path / "walked_layers"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("raise SystemExit('not to be run')")
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "layers.py").write_text(LAYERS)
    (package / "optional.py").write_text("import a_package_that_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.warns(UserWarning, match=r"walked_layers.optional: a_package_that_nobody_has"):
        (layer,) = all_layers(["walked_layers"])
    assert (layer.__module__, layer.__name__) == ("walked_layers.deep.layers", "Listed")
    with (
        pytest.warns(UserWarning, match="leaves out"),
        pytest.raises(AssertionError, match="Listed: expected"),
    ):
        all_examples(["walked_layers"])

    (package / "typo.py").write_text("import walked_layers.missing")
    with (
        pytest.warns(UserWarning, match="leaves out"),
        pytest.raises(ModuleNotFoundError, match=r"walked_layers\.missing"),
    ):
        all_layers(["walked_layers"])


def test_flowkits_own_layers_are_found():
    names = {layer.__name__ for layer in all_layers(["flowkit"])}
    assert {"ActNorm", "InvConv1x1", "Chain", "OnChannels"} <= names
    assert "Bijection" not in names


OWN_REPOSITORY = """
import torch
from torch import nn
from flowkit import Bijection, Example
from flowkit.testing import parametrize_with_checks

class Sign(Bijection):
    def forward(self, x, cond=None):
        return -x, x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))

    inverse = forward

    @classmethod
    def examples(cls):
        return [Example(cls, (1, 2, 2))]

class Unlisted(Sign):
    @classmethod
    def examples(cls):
        return []

@parametrize_with_checks([{layers}])
def test_own_layer(check):
    check()
"""


def test_three_lines_in_another_repository(pytester):
    pytester.makepyfile(OWN_REPOSITORY.replace("{layers}", "Sign"))
    result = pytester.runpytest_inprocess("-q")
    count = len(all_checks())
    result.assert_outcomes(passed=count)
    result.stdout.fnmatch_lines([f"flowkit: 1 layers, 1 examples x {count} checks = {count} cases"])


def test_three_lines_fail_by_name_without_examples(pytester):
    pytester.makepyfile(OWN_REPOSITORY.replace("{layers}", "Sign, Unlisted"))
    result = pytester.runpytest_inprocess("-q", "-k", "Unlisted-examples or Sign-shapes")
    result.assert_outcomes(passed=1, failed=1, deselected=len(all_checks()) - 1)
    result.stdout.fnmatch_lines(["*Unlisted: expected examples() to give at least one*"])


def test_a_run_without_cases_prints_no_count(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    pytester.runpytest_inprocess("-q").stdout.no_fnmatch_line("flowkit:*")
