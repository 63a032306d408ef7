"""The checks themselves: sound layers pass, and each planted defect is found by its check."""

import importlib
import pkgutil
from dataclasses import replace

import planted
import pytest
import torch
from planted import Sound

from flowkit import Bijection, Example, testing
from flowkit.testing import (
    all_checks,
    all_examples,
    all_layers,
    check_bijection,
    check_compiles,
    check_condition,
    check_copies,
    check_density,
    check_empty_batch,
    check_exports,
    check_extremes,
    check_fold,
    check_given,
    check_gradients,
    check_independent_samples,
    check_initialize,
    check_logdet,
    check_logdet_in_place,
    check_low_precision,
    check_parallel_inverse,
    check_pure,
    check_reuse,
    check_reversible,
    check_round_trip,
    check_shapes,
    checks,
    parametrize_with_checks,
    random_inputs,
)
from flowkit.testing.comparison import explained, require_close, require_equal
from flowkit.testing.draws import LAYOUTS, Draw, over_draws
from flowkit.testing.randomize import laid_out
from flowkit.testing.subject import longer

pytest_plugins = "pytester"

DEFECTS = [
    ("LogdetNotPerSample", check_shapes, r"forward: expected a log-det for each sample, shape \(1"),
    ("LogdetBelowInput", check_shapes, r"a log-det in torch.float64, .*\(flowkit.sum_logdet"),
    ("ValueBelowInput", check_shapes, r"for torch.float64 input a value in torch.float64, got"),
    ("ValueReshaped", check_shapes, r"inverse: expected a value of shape \(1, 2, 2, 3\), got"),
    ("ShapeForetoldWrong", check_shapes, r"shape\(\(2, 2, 3\)\): expected the shape .*\(8, 2, 3"),
    ("ShapeRefusesNothing", check_shapes, r"shape\(\(3, 2, 2\)\): expected a ValueError, since"),
    ("ReadsMemory", check_shapes, r"view size .*\n  smallest case: .*, memory: channels last$"),
    ("NoLogdet", check_shapes, r"forward: expected \(value, logdet\), got one tensor of shape \(1"),
    ("NoInverse", check_shapes, r"inverse: expected .*, got .*NoInverse has no inverse"),
    ("NoCond", check_shapes, r"every bijection accepts a condition: forward\(self, x, cond=None"),
    ("NoSuperInit", check_shapes, r".__init__ to call super\(\).__init__\(\) first"),
    ("InputModified", check_pure, r"forward: expected its input unchanged"),
    ("ConditionModified", check_pure, r"inverse: expected the condition unchanged"),
    ("StateChanged", check_pure, r"forward: expected the layer's state unchanged.*\['calls'\]"),
    ("InitializedByFirstBatch", check_pure, r"forward: expected the layer's state unchanged"),
    ("Noisy", check_pure, r"forward, called again: expected the identical value"),
    (
        "BatchLeak",
        check_independent_samples,
        r"value .*: sample 0 depends on sample 1\n.*ch 2,",
    ),
    ("BatchLeakOfLogdet", check_independent_samples, r"the log-det .*0 depends on sample 1"),
    ("PlaceInBatch", check_independent_samples, r"sample 1 depends on its place in the batch"),
    ("EmptyBatchFails", check_empty_batch, r"forward: expected \(value, logdet\), got Runtime"),
    ("WrongInverse", check_round_trip, r"inverse: expected to undo forward"),
    ("NotOnto", check_round_trip, r"forward: expected to undo inverse"),
    ("InverseLogdetNotNegated", check_round_trip, r"inverse: .*got .*: minus what is expected"),
    ("LogdetSign", check_logdet, r"forward: .*the log-det of the Jacobian.*: minus what is exp"),
    ("LogdetWithoutArea", check_logdet, r"6 times too small: 6 places \(2·3\), H·W missing\?"),
    ("LogdetOfOneChannel", check_logdet, r"minus .*, and 2 times too small: the sum over 2 ch"),
    ("LogdetDoubled", check_logdet, r"2 times too large: counted twice\?"),
    ("LogdetOffset", check_logdet, r"forward: expected the log-det of the Jacobian, 2.24562, got"),
    ("LogdetForgotten", check_logdet, r"got 0: no log-det at all\?\n  smallest case: batch 1, see"),
    ("LogdetOfInverseOnly", check_logdet, r"inverse: expected the log-det of the Jacobian"),
    ("SquareOnly", check_logdet, r"H² in place of H·W\?\n.*S longer than the example's$"),
    ("NotOnto", check_density, r"integrates to 1, got 0.4483 \(is a part of the noise never"),
    ("LogdetDetached", check_gradients, r"forward: .* another log-det gradient for log_scale"),
    ("GradientCut", check_gradients, r"forward: .* got another value gradient for gain"),
    ("UnusedParameter", check_gradients, r"forward: expected a gradient for .*\['unused'\]"),
    ("ConditionIgnored", check_condition, r"forward: expected the condition to change"),
    ("OneEntryIgnored", check_condition, r"forward: expected the condition's entry 'idle'"),
    ("MissingConditionAccepted", check_condition, r"forward: expected a missing condition to be"),
    ("MissingConditionCrashes", check_condition, r"a ValueError for a missing .*AttributeError"),
    ("SaysItNeedsNoCondition", check_condition, r"expected conditional = True of a layer whose"),
    ("UndeclaredConditionUsed", check_condition, r"forward, given a condition it has no use for"),
    ("LogdetRoundedToBfloat16", check_low_precision, r"bfloat16 in a chain: .*log-det of float64"),
    ("LatentUnderAutocast", check_low_precision, r"is the latent path in bfloat16\? flowkit.wide"),
    ("PlainCoupling", check_low_precision, r"is the latent path in bfloat16\? flowkit.wide"),
    ("Overflows", check_extremes, r"forward, input ±1e\+06: expected a finite value, got inf"),
    ("SwallowsNaN", check_extremes, r"forward, NaN in sample 0: expected NaN in what becomes"),
    ("LogdetExpanded", check_logdet_in_place, r"a number of its own .*flowkit.same_logdet"),
    ("LogdetIsABuffer", check_logdet_in_place, r"and called again: expected the identical log-d"),
    ("OutsideStateDict", check_copies, r"forward, after state_dict: expected the identical value"),
    ("TiedToOriginal", check_copies, r"forward, after deepcopy: expected the identical value"),
    ("ColumnMajor", check_copies, r"contiguous parameters .*, got turned with strides \(1, 3\)"),
    ("HoldsALock", check_copies, r"expected copy.deepcopy, got TypeError"),
    ("CachedInverse", check_reuse, r"inverse, used, then changed by a step in place: .*remember"),
    ("CachedScale", check_reuse, r"forward, used, then changed by a step in place: .*remembered"),
    ("KeyedByVersion", check_reuse, r"forward, used, then changed through .data"),
    ("GivenWrong", check_given, r"forward, given\(cond\): expected the value of forward"),
    ("GivenWithoutGradient", check_given, r"gradient for .*: is the work of given done without"),
    ("GivenDetachesCondition", check_given, r"gradient for the condition as without given"),
    ("GivenStale", check_given, r"after the parameters changed: expected the changed map, or a"),
    ("GivenOnce", check_given, r"forward, given\(cond\), 3 samples a condition: expected the val"),
    ("GivenNeighbours", check_given, r"given\(cond\), 3 samples a condition: expected the value"),
    ("GivenAnyNumber", check_given, r"expected a refusal of 3 samples under 2 conditions, got a"),
    ("GivenNothing", check_given, r"given: expected a bijection, got NoneType"),
    ("StopsTooEarly", check_parallel_inverse, r"in parallel: expected the value found step by st"),
    ("FoldWrong", check_fold, r"forward, folded: expected the same value"),
    ("FoldStillLearning", check_fold, r"fold: expected parameters that need a gradient \[\], got"),
    ("FoldShared", check_fold, r"folded, after the layer changed: expected the identical value"),
    ("FoldInPlace", check_fold, r"fold: expected the layer's state unchanged, .*\['gain'\]"),
    ("FoldRoundedApart", check_fold, r"folded, in bfloat16: expected the log-det of its own map"),
    ("ElsewhereWithoutGradients", check_reversible, r"with nothing kept: expected the same value"),
    ("InitializedBesideBefore", check_initialize, r"whatever it was before: .* another \['gain"),
    ("InitializedFurther", check_initialize, r"whatever it was before: .*\['log_scale'\]"),
    ("NumPyOnTheWay", check_exports, r"expected torch.export to take it, got RuntimeError"),
    ("GraphBreak", check_compiles, r"expected torch.compile\(fullgraph=True\) to take it, got"),
]


@parametrize_with_checks([Sound, planted.SoundUnconditional])
def test_sound_layers_pass(check):
    check()


@parametrize_with_checks(
    [planted.LeakyReLU, planted.ScalePerChannel, planted.OwnCoupling, planted.OneSize]
)
def test_first_layers_of_somebody_new_pass(check):
    check()


@parametrize_with_checks([planted.Log, planted.Sigmoid, planted.Numerical])
def test_domains_and_numerical_inverses_pass(check):
    check()


@pytest.mark.parametrize(
    ("layer", "check", "message"), DEFECTS, ids=[f"{d[0]}-{d[1].__name__[6:]}" for d in DEFECTS]
)
def test_defect_is_found_by_its_check(layer, check, message):
    (example,) = getattr(planted, layer).examples()
    with pytest.raises(AssertionError, match=message) as found:
        check(example)
    assert layer in str(found.value)
    assert len(str(found.value)) < 800, "whole tensors tell nobody anything"


def test_log_slopes_in_another_precision_are_told_what_helps():
    with pytest.raises(AssertionError, match=r"float64 input a log-det in .*of log-slopes in the"):
        check_shapes(planted.LeakyReLUInFloat32.examples()[0])


@pytest.mark.parametrize("layer", ["LogdetSign", "LogdetWithoutArea", "SquareOnly"])
def test_only_the_jacobian_finds_a_log_det_that_is_wrong_both_ways(layer):
    (example,) = getattr(planted, layer).examples()
    for check in all_checks():
        if check not in (check_logdet, check_density):
            check(example)
    with pytest.raises(AssertionError, match="log-det of the Jacobian"):
        check_logdet(example)


def test_every_check_finds_a_defect():
    assert {check for _, check, _ in DEFECTS} == set(all_checks())


def test_every_check_is_run_and_public():
    found = {
        name
        for info in pkgutil.iter_modules(checks.__path__, f"{checks.__name__}.")
        for name, value in vars(importlib.import_module(info.name)).items()
        if name.startswith("check_") and value.__module__ == info.name
    }
    assert found == {check.__name__ for check in all_checks()}
    others = {"check_bijection", "check_elementwise", "check_flow"}
    assert found | others == {n for n in testing.__all__ if n.startswith("check_")}


def test_check_bijection_runs_every_check_on_every_example():
    check_bijection(Sound)
    with pytest.raises(AssertionError, match="log-det of the Jacobian"):
        check_bijection(planted.LogdetSign)
    with pytest.raises(AssertionError, match="expected the layer's state unchanged"):
        check_bijection(planted.StateChanged.examples()[0])


@pytest.mark.parametrize(
    ("layer", "cause"),
    [
        ("NoLogdet", "check_shapes"),
        ("LogdetNotPerSample", "check_shapes"),
        ("NoSuperInit", "check_shapes"),
        ("InputModified", "check_pure"),
        ("BatchLeakOfLogdet", "check_independent_samples"),
    ],
)
def test_what_follows_from_a_cause_is_said_to(layer, cause):
    cases = parametrize_with_checks([getattr(planted, layer)]).args[1]
    case = {case.id.rpartition("-")[2]: case.values[0] for case in cases}["extremes"]
    with pytest.raises(AssertionError, match=rf"^{layer}: follows from {cause}: ") as found:
        case()
    assert found.value.__suppress_context__
    assert "\n" not in str(found.value), "the cause shows its smallest case itself"


def test_a_cause_is_reported_as_itself():
    cases = parametrize_with_checks([planted.NoLogdet]).args[1]
    with pytest.raises(AssertionError, match=r"^NoLogdet.forward: expected \(value, logdet\)"):
        cases[0].values[0]()


def drawn(**options):
    seen = []
    over_draws(**options)(lambda example, draw: seen.append(draw))(Sound.examples()[0])
    return seen


def test_draws_begin_with_the_simplest_vary_and_repeat():
    seen = drawn()
    assert seen == drawn()
    assert seen[0] == Draw(batch=1)
    assert {draw.batch for draw in seen} == {1, 2, 3}
    assert {draw.scale for draw in seen} == {1.0, 10.0}
    assert {draw.layout for draw in seen} == set(LAYOUTS)
    assert {draw.longer for draw in seen} == {False, True}
    assert len({draw.seed for draw in seen}) > 2


def test_a_failure_is_the_smallest_one():
    def fails(example, draw):
        if draw.batch > 1 and draw.longer and draw.scale == 10:
            raise AssertionError("too much")

    with pytest.raises(AssertionError) as found:
        over_draws(max_draws=100)(fails)(Sound.examples()[0])
    smallest = "batch 2, seed 0, scale 10, S longer than the example's"
    assert str(found.value) == f"too much\n  smallest case: {smallest}"


def test_what_holds_at_one_time_only_is_said_to():
    seen = []

    def sometimes(example, draw):
        seen.append(draw)
        assert draw.batch == 1 or draw in seen[:-1], "the first time only"

    with pytest.raises(AssertionError, match="at one time and holds at another"):
        over_draws()(sometimes)(Sound.examples()[0])


@pytest.mark.parametrize(
    ("factor", "shape", "words"),
    [
        (-1, (3, 4, 4), "minus what is expected"),
        (1 / 16, (3, 4, 4), "16 times too small: 16 places (4·4), H·W missing?"),
        (1 / 5, (3, 5), "5 times too small: 5 places (5), T missing?"),
        (16, (3, 4, 4), "16 times too large: H·W (4·4) counted twice?"),
        (4 / 6, (3, 4, 6), "1.5 times too small: H² in place of H·W?"),
        (6 / 4, (3, 4, 6), "1.5 times too large: W² in place of H·W?"),
        (1 / 3, (3,), "3 times too small: a mean in place of a sum?"),
        (1 / 3, (3, 4, 4), "3 times too small: the sum over 3 channels missing?"),
        (2, (5, 4, 4), "2 times too large: counted twice?"),
        (-1 / 2, (5, 4, 4), "minus what is expected, and 2 times too small: a part of it missing?"),
        (0, (3, 4, 4), "no log-det at all?"),
        (1.1234, (3, 4, 4), ""),
    ],
)
def test_numbers_that_give_a_fault_away(factor, shape, words):
    expected = torch.tensor([1.5, -7.0])
    assert explained(factor * expected, expected, shape) == words


def test_an_offset_and_nan_are_said():
    expected = torch.tensor([1.5, -7.0], dtype=torch.float64)
    assert explained(expected + 0.25, expected, (3,)) == "off by 0.25 in every sample"
    assert explained(expected * torch.nan, expected, (3,)) == "NaN in 2 of 2"


def test_dtypes_are_compared_before_numbers():
    with pytest.raises(AssertionError, match=r"X: expected y, dtype torch.float64, got to"):
        require_close("X", "y", torch.zeros(2), torch.ones(2).double(), 1e-9)
    with pytest.raises(AssertionError, match=r"X: expected y, 1, got 0 \(sample 1\)"):
        require_close("X", "y", torch.tensor([1.0, 0.0]), torch.ones(2), 1e-9)
    with pytest.raises(AssertionError, match=r" …$"):
        require_equal("X", "y", list(range(1000)), [])


def test_inputs_lie_in_their_domain_and_layout():
    example = planted.Log.examples()[0]
    for layout in LAYOUTS:
        x, cond = random_inputs(example, Draw(3, scale=10, layout=layout))
        assert cond is None
        assert (x > 0).all()
        assert x.is_contiguous() == (layout == LAYOUTS[0])
        assert x.equal(random_inputs(example, Draw(3))[0])
    image = torch.rand(2, 3, 4, 5)
    assert laid_out(image, "channels last").is_contiguous(memory_format=torch.channels_last)


def test_the_longer_example_is_not_square_and_refused_where_the_layer_refuses():
    example = Example(planted.SoundUnconditional, (2, 4, 2), {"a": (5, 4, 2), "b": (5,)})
    other = longer(example)
    assert other is not None
    assert (other.shape, other.cond_shape) == ((2, 4, 6), {"a": (5, 4, 6), "b": (5,)})
    assert longer(replace(example, shape=(2,))) is None
    assert longer(replace(example, shape=(3, 2, 2))) is None
    assert longer(planted.OneSize.examples()[0]) is None


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
from abc import abstractmethod, ABC
from flowkit import Bijection, Squeeze
from flowkit.contract import HoldsCondition

class Listed(Bijection):
    def forward(self, x, cond=None):
        return x, x.new_zeros(len(x))

    inverse = forward

class Base(Bijection):
    pass

class Family(Listed, ABC):
    @abstractmethod
    def params(self): ...

class MadeByGiven(Listed, HoldsCondition):
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
    assert {"ActNorm", "InvertibleLinear", "Chain", "OnChannels"} <= names
    assert not {"Bijection", "Parameterized", "Given"} & names


OWN_REPOSITORY = """
import torch
from torch import nn
from flowkit import Bijection, Example, zero_logdet
from flowkit.testing import parametrize_with_checks

class Sign(Bijection):
    def forward(self, x, cond=None):
        return -x, zero_logdet(x)

    inverse = forward

    @classmethod
    def examples(cls):
        return [Example(cls, (1,))]

class Unlisted(Sign):
    @classmethod
    def examples(cls):
        return []

class NoLogdet(Sign):
    def forward(self, x, cond=None):
        return -x

@parametrize_with_checks([{layers}])
def test_own_layer(check):
    check()
"""


def test_three_lines_in_another_repository(pytester):
    pytester.makepyfile(OWN_REPOSITORY.replace("{layers}", "Sign"))
    result = pytester.runpytest_inprocess("-q")
    count = len(all_checks())
    # Nothing in Sign is set from data, and its inverse has no rounds.
    result.assert_outcomes(passed=count - 2, skipped=2)
    result.stdout.fnmatch_lines([f"flowkit: 1 layers, 1 examples x {count} checks = {count} cases"])


def test_three_lines_fail_by_name_without_examples(pytester):
    pytester.makepyfile(OWN_REPOSITORY.replace("{layers}", "Sign, Unlisted"))
    result = pytester.runpytest_inprocess("-q", "-k", "Unlisted-examples or Sign-shapes")
    result.assert_outcomes(passed=1, failed=1, deselected=len(all_checks()) - 1)
    result.stdout.fnmatch_lines(["*Unlisted: expected examples() to give at least one*"])


def test_a_report_shows_no_frames_of_the_checks(pytester):
    pytester.makepyfile(OWN_REPOSITORY.replace("{layers}", "NoLogdet"))
    result = pytester.runpytest_inprocess("-q", "-k", "shapes or extremes")
    result.assert_outcomes(failed=2, deselected=len(all_checks()) - 2)
    result.stdout.fnmatch_lines(
        [
            "E*NoLogdet.forward: expected (value, logdet), got one tensor of shape (1, 1)",
            "E*NoLogdet: follows from check_shapes: NoLogdet.forward: expected (value, logdet)*",
        ]
    )
    shown = result.stdout.str()
    assert "outcome(" not in shown
    assert "Traceback" not in shown


def test_a_run_without_cases_prints_no_count(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    pytester.runpytest_inprocess("-q").stdout.no_fnmatch_line("flowkit:*")


class Broadcasts(Bijection):
    """Its shape refuses other channels, its forward repeats its one channel over them."""

    conditional = False

    def __init__(self):
        super().__init__()
        self.shift = torch.nn.Parameter(torch.zeros(1, 1))

    def forward(self, x, cond=None):
        return x + self.shift, x.new_zeros(len(x))

    def inverse(self, y, cond=None):
        return y - self.shift, y.new_zeros(len(y))

    def shape(self, shape, *, inverse=False):
        if shape != (1,):
            raise ValueError("one channel")
        return shape


def test_what_shape_refuses_forward_may_not_map():
    words = r"forward: expected samples of shape \(2,\) to be refused, as by `shape`, got a value"
    with pytest.raises(AssertionError, match=words):
        check_shapes(Example(Broadcasts, (1,)))
