"""What every bijection has to hold. Each check takes an `Example` and raises an AssertionError."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowkit.contract import Bijection, Cond, Example, wide_dtype
from flowkit.reversible import KEEP, Reversible
from flowkit.testing.discover import examples_of
from flowkit.testing.draws import Check, over_draws
from flowkit.testing.randomize import Draw, random_inputs, randomized

# The two sides of a float64 equation differ by rounding, 2e-16, times the layer's conditioning. The
# worst layer to be expected is a coupling at the floor of its scale, 1e-4, fed with 10: 2e-11.
FLOAT64 = 1e-9

# The same in float32, 6e-8, for log-dets, which don't meet that conditioning: some 25 terms, each
# behind a small net, 1e-5. Below the 4e-3 of a log-det that was rounded to bf16 on its way.
FLOAT32_LOGDET = 1e-4

# What a float32 round trip costs the median element: 6e-8 times a conditioning of up to 1e3.
FLOAT32_TYPICAL = 1e-4

# bf16 has 8 bits, so a net in bf16 whose input moves by float32 rounding may answer 4e-3
# differently; divided by a scale of some 0.1 that is 4e-2.
BFLOAT16_NET = 5e-2

Map = Callable[..., tuple[Tensor, Tensor]]


class Side(NamedTuple):
    """One direction of a layer, with an input for it."""

    who: str
    name: str
    map: Map
    value: Tensor


class Subject(NamedTuple):
    """A randomised layer with inputs for both directions."""

    who: str
    layer: Bijection
    x: Tensor
    y: Tensor
    cond: Cond

    @property
    def sides(self) -> tuple[Side, Side]:
        return (
            Side(f"{self.who}.forward", "forward", self.layer, self.x),
            Side(f"{self.who}.inverse", "inverse", self.layer.inverse, self.y),
        )


@over_draws()
def check_shapes(example: Example, draw: Draw) -> None:
    """Value and log-det have the shapes and dtypes of the contract, both ways, and the layer's
    `forward_shape` and `inverse_shape` foretell them."""
    for dtype in (torch.float32, torch.float64):
        subject = _subject(example, draw, dtype, layer_dtype=torch.float32)
        for side in subject.sides:
            result = side.map(side.value, subject.cond)
            two_tensors = isinstance(result, tuple) and len(result) == 2
            if not two_tensors or not all(isinstance(part, Tensor) for part in result):
                raise AssertionError(f"{side.who}: expected (value, logdet), got {result!r}")
            value, logdet = result
            back = subject.y if side.name == "forward" else subject.x
            _assert_equal(side.who, "a value of shape", value.shape, back.shape)
            _assert_equal(
                side.who, f"a value of {dtype} for {dtype} input, dtype", value.dtype, dtype
            )
            _assert_equal(side.who, "a log-det of shape (B,)", logdet.shape, (draw.batch,))
            _assert_equal(side.who, f"a log-det for {dtype} input, dtype", logdet.dtype, dtype)
        _assert_equal(
            subject.who, "elements per sample", subject.y[0].numel(), subject.x[0].numel()
        )
        x_shape, y_shape = tuple(subject.x.shape[1:]), tuple(subject.y.shape[1:])
        shapes = subject.layer.shape(x_shape), subject.layer.shape(y_shape, inverse=True)
        _assert_equal(subject.who, "forward_shape, inverse_shape", shapes, (y_shape, x_shape))


@over_draws()
def check_round_trip(example: Example, draw: Draw) -> None:
    """inverse(forward(x)) = x, forward(inverse(y)) = y, and the log-dets of each pair sum to 0."""
    subject = _subject(example, draw)
    there, back = subject.sides
    for first, second in ((there, back), (back, there)):
        value, logdet = first.map(first.value, subject.cond)
        returned, logdet_back = second.map(value, subject.cond)
        _assert_close(second.who, f"to undo {first.name}", returned, first.value, FLOAT64)
        _assert_close(
            second.who, f"minus the log-det of {first.name}", logdet_back, -logdet, FLOAT64
        )


@over_draws()
def check_logdet(example: Example, draw: Draw) -> None:
    """The log-det of each sample is log|det| of the Jacobian that autograd finds, both ways."""
    subject = _subject(example, draw)
    for side in subject.sides:
        _, logdet = side.map(side.value, subject.cond)
        expected = []
        for index in range(draw.batch):
            cond = _rows(subject.cond, slice(index, index + 1))
            sample = side.value[index]
            jacobian = torch.autograd.functional.jacobian(
                lambda flat, cond=cond, sample=sample, side=side: side.map(
                    flat.reshape(1, *sample.shape), cond
                )[0].flatten(),
                sample.flatten(),
            )
            assert isinstance(jacobian, Tensor)
            expected.append(torch.linalg.slogdet(jacobian).logabsdet)
        _assert_close(
            side.who, "the log-det of the Jacobian", logdet, torch.stack(expected), FLOAT64
        )


@over_draws()
def check_independent_samples(example: Example, draw: Draw) -> None:
    """A sample's result is the same alone, in any batch, and at any place in it."""
    subject = _subject(example, Draw(draw.batch + 1, draw.seed, draw.scale))
    for side in subject.sides:
        value, logdet = side.map(side.value, subject.cond)
        for index in range(len(value)):
            row = slice(index, index + 1)
            alone, logdet_alone = side.map(side.value[row], _rows(subject.cond, row))
            _assert_close(side.who, "each sample as if alone", value[row], alone, FLOAT64)
            _assert_close(side.who, "each log-det as if alone", logdet[row], logdet_alone, FLOAT64)
        turned = torch.arange(len(value)).roll(1)
        moved, logdet_moved = side.map(side.value[turned], _rows(subject.cond, turned))
        _assert_close(side.who, "samples moved with their places", moved, value[turned], FLOAT64)
        _assert_close(side.who, "log-dets moved too", logdet_moved, logdet[turned], FLOAT64)


def check_gradients(example: Example) -> None:
    """Gradients of value and log-det for input, condition and parameters agree with differences,
    both ways, and every parameter gets one."""
    _check_gradcheck(example)
    _check_parameters_used(example)


@over_draws(max_draws=3)
def _check_gradcheck(example: Example, draw: Draw) -> None:
    subject = _subject(example, draw)
    parameters = [p for p in subject.layer.parameters() if p.requires_grad]
    cond = _each(subject.cond, lambda entry: entry.requires_grad_())
    for side in subject.sides:

        def value_and_logdet(value: Tensor, *_: Tensor, side: Side = side) -> tuple[Tensor, Tensor]:
            mapped, logdet = side.map(value, cond)
            # Adds nothing, but gradcheck passes over an output that needs no gradient, as a
            # detached log-det doesn't.
            return mapped, logdet + 0 * mapped.sum()

        inputs = (side.value.requires_grad_(), *_entries(cond).values(), *parameters)
        try:
            torch.autograd.gradcheck(
                # The default differences, 1e-6 apart with tolerances of 1e-5 and 1e-3, are made for
                # float64. nondet_tol: convolutions may sum in another order the second time.
                value_and_logdet,
                inputs,
                fast_mode=True,
                nondet_tol=1e-12,
            )
        except RuntimeError as error:
            raise AssertionError(
                f"{side.who}: expected gradients that agree with differences, got: {error}"
            ) from error


def _check_parameters_used(example: Example) -> None:
    for side_index in range(2):
        without: set[str] = set()
        # A ReLU that is off for a whole batch hides what lies behind it; three seeds don't agree.
        for seed in range(3):
            subject = _subject(example, Draw(batch=3, seed=seed))
            side = subject.sides[side_index]
            value, logdet = side.map(side.value, subject.cond)
            weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype)
            loss = (value.flatten() * weights).sum() + (logdet * weights[: len(logdet)]).sum()
            names = [n for n, p in subject.layer.named_parameters() if p.requires_grad]
            if not names:
                break
            if not loss.requires_grad:
                raise AssertionError(f"{side.who}: expected gradients for {names}, got none at all")
            parameters = [subject.layer.get_parameter(name) for name in names]
            grads = torch.autograd.grad(loss, parameters, allow_unused=True)
            for name, grad in zip(names, grads, strict=True):
                if grad is not None and not grad.isfinite().all():
                    raise AssertionError(f"{side.who}: expected a finite gradient for {name}")
            unused = {
                name
                for name, grad in zip(names, grads, strict=True)
                if grad is None or not grad.any()
            }
            without = unused if seed == 0 else without & unused
        if without:
            raise AssertionError(
                f"{side.who}: expected a gradient for every parameter, got none for "
                f"{sorted(without)} (constants are buffers)"
            )


def check_condition(example: Example) -> None:
    """A condition that is needed matters, entry by entry, and is refused when missing; one that
    isn't needed changes nothing."""
    if example.cond_shape is None:
        _check_condition_ignored(example)
        return
    subject = _subject(example, Draw())
    for side in subject.sides:
        try:
            side.map(side.value, None)
        except ValueError:
            pass
        except Exception as error:
            raise AssertionError(
                f"{side.who}: expected a ValueError for a missing condition, got {error!r}"
            ) from error
        else:
            raise AssertionError(f"{side.who}: expected a missing condition to be refused")
    for key in _entries(subject.cond):
        for side_index in range(2):
            # Any seed will do: a ReLU may hide the condition, but not from all of five layers.
            if not any(_condition_matters(example, seed, key, side_index) for seed in range(5)):
                raise AssertionError(
                    f"{subject.sides[side_index].who}: expected the condition{_at(key)} to change "
                    "value or log-det, got the same whatever it is"
                )


def _condition_matters(example: Example, seed: int, key: str, side_index: int) -> bool:
    subject = _subject(example, Draw(seed=seed))
    side = subject.sides[side_index]
    value, logdet = side.map(side.value, subject.cond)
    other = _each(subject.cond, lambda entry: entry + 1, only=key)
    other_value, other_logdet = side.map(side.value, other)
    return not (value.equal(other_value) and logdet.equal(other_logdet))


def _check_condition_ignored(example: Example) -> None:
    subject = _subject(example, Draw())
    entry, _ = random_inputs(Example(example.build, (1, 2, 2)), Draw(seed=1))
    for cond in (entry, {"entry": entry}):
        for side in subject.sides:
            expected = side.map(side.value, None)
            got = side.map(side.value, cond)
            _assert_identical(f"{side.who}, given a condition it has no use for", got, expected)


@over_draws()
def check_low_precision(example: Example, draw: Draw) -> None:
    """bf16 and fp16 input gets a float32 log-det; under autocast the latent path stays float32 and
    the inverse still undoes."""
    for dtype in (torch.bfloat16, torch.float16):
        subject = _subject(example, draw, dtype, layer_dtype=torch.float32)
        exact = randomized(example, draw.seed, torch.float64)
        cond = _each(subject.cond, lambda entry: entry.double())
        for side in subject.sides:
            _, logdet = side.map(side.value, subject.cond)
            _assert_equal(
                side.who, f"a log-det for {dtype} input, dtype", logdet.dtype, torch.float32
            )
            _, expected = getattr(exact, side.name)(side.value.double(), cond)
            what = f"for {dtype} input the log-det of float64"
            _assert_close(side.who, what, logdet.double(), expected, FLOAT32_LOGDET)

    subject = _subject(example, draw, torch.float32)
    there, back = subject.sides
    for first, second in ((there, back), (back, there)):
        with torch.autocast("cpu", torch.bfloat16):
            value, logdet = first.map(first.value, subject.cond)
            returned, _ = second.map(value, subject.cond)
        _assert_equal(first.who, "under autocast a value, dtype", value.dtype, torch.float32)
        _assert_equal(first.who, "under autocast a log-det, dtype", logdet.dtype, torch.float32)
        if not logdet.isfinite().all():
            raise AssertionError(f"{first.who}: expected a finite log-det under autocast")
        what = f"under autocast to undo {first.name}"
        _assert_close(second.who, what, returned, first.value, BFLOAT16_NET)
        # Few of a net's inputs cross a rounding edge of bf16 on their way back, so most elements
        # come back to float32; a latent path that was itself in bf16 moves most by 1e-3.
        error = ((returned - first.value).abs().median() / first.value.abs().median()).item()
        if not error < FLOAT32_TYPICAL:
            raise AssertionError(
                f"{second.who}: expected {what} but for {FLOAT32_TYPICAL:g} of the typical "
                f"element, got {error:.2g} (is the latent path in bfloat16?)"
            )


def check_compiles(example: Example) -> None:
    """torch.compile finds no graph break and gives the same numbers, both ways, given a condition
    or what `prepare` made of it."""
    subject = _subject(example, Draw())
    conds = [subject.cond]
    for side in subject.sides:
        for cond in conds:
            expected = side.map(side.value, cond)
            # The backend "eager" runs the captured graph as it is: what is tested is the capture.
            torch.compiler.reset()
            compiled = torch.compile(side.map, fullgraph=True, backend="eager")
            try:
                got = compiled(side.value, cond)
            except Exception as error:
                raise AssertionError(
                    f"{side.who}: expected torch.compile(fullgraph=True) to take it, got: {error}"
                ) from error
            finally:
                torch.compiler.reset()
            # To rounding: under a compiler an op may choose another implementation.
            _assert_results_close(f"{side.who}, compiled,", got, expected, FLOAT64)


def check_copies(example: Example) -> None:
    """A deep copy, and a fresh layer that loads the state_dict, are the same map."""
    subject = _subject(example, Draw(), torch.float32)
    layer, cond = subject.layer, subject.cond
    expected = [side.map(side.value, cond) for side in subject.sides]

    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = randomized(example, seed=1)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()

    for name, other in (("deepcopy", copied), ("state_dict", loaded)):
        for side, results in zip(subject.sides, expected, strict=True):
            got = getattr(other, side.name)(side.value, cond)
            _assert_identical(f"{side.who}, after {name}", got, results)


@over_draws(max_draws=3)
def check_prepare(example: Example, draw: Draw) -> None:
    """What `prepare(cond)` gives stands for `cond`, both ways and more than once."""
    subject = _subject(example, draw)
    given = subject.layer.given(subject.cond)
    for side in subject.sides:
        for value in (side.value, side.value.flip(0)):
            expected = side.map(value, subject.cond)
            got = getattr(given, side.name)(value)
            _assert_results_close(f"{side.who}, with prepare(cond),", got, expected, FLOAT64)


@over_draws(max_draws=3)
def check_reversible(example: Example, draw: Draw) -> None:
    """Inside `Reversible`, which computes activations again instead of keeping them, value, log-det
    and every gradient are the same, both ways."""
    subject = _subject(example, draw)
    parameters = [p for p in subject.layer.parameters() if p.requires_grad]
    cond = _each(subject.cond, lambda entry: entry.requires_grad_())
    for side in subject.sides:
        inputs = (side.value.requires_grad_(), *_entries(cond).values(), *parameters)
        results = []
        for layer in (
            subject.layer,
            *(Reversible(subject.layer, keep=k, tolerance=None) for k in KEEP),
        ):
            mapped, logdet = getattr(layer, side.name)(side.value, cond)
            weights = torch.linspace(-1, 1, mapped.numel(), dtype=mapped.dtype)
            loss = (mapped * weights.view_as(mapped)).sum() + logdet.square().sum()
            gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
            results.append((mapped, logdet, *gradients))
        names = ("value", "log-det", *(f"gradient {i}" for i in range(len(inputs))))
        for keep, got in zip(KEEP, results[1:], strict=True):
            who = f"{side.who}, Reversible with {keep} kept,"
            for name, came, expected in zip(names, got, results[0], strict=True):
                _assert_close(who, name, came, expected, FLOAT64)


@over_draws(max_draws=3)
def check_fold(example: Example, draw: Draw) -> None:
    """`fold()` gives the same map, with and without `prepare`, frozen: it needs no gradient, leaves
    the layer as it was, and stays when the layer changes."""
    subject = _subject(example, draw)
    expected = [side.map(side.value, subject.cond) for side in subject.sides]
    before = _state(subject.layer)
    folded = subject.layer.fold()
    for other, cond in ((folded, subject.cond), (folded.given(subject.cond), None)):
        for side, results in zip(subject.sides, expected, strict=True):
            got = getattr(other, side.name)(side.value, cond)
            _assert_results_close(f"{side.who}, folded,", got, results, FLOAT64)
    _assert_same_state(f"{subject.who}.fold", subject.layer, before)
    learning = [name for name, p in folded.named_parameters() if p.requires_grad]
    _assert_equal(f"{subject.who}.fold", "parameters that need a gradient", learning, [])
    with torch.no_grad():
        first = folded(subject.x, subject.cond)
        for parameter in subject.layer.parameters():
            parameter.zero_()
        _assert_identical(
            f"{subject.who}, folded, after the layer changed",
            folded(subject.x, subject.cond),
            first,
        )


def check_pure(example: Example) -> None:
    """Neither direction changes its input, the condition or the layer; a second call repeats the
    first bit for bit, in training and evaluation mode."""
    for training in (True, False):
        subject = _subject(example, Draw(), torch.float32)
        subject.layer.train(training)
        for side in subject.sides:
            before = _state(subject.layer)
            value = side.value.clone()
            cond = _each(subject.cond, lambda entry: entry.clone())
            first = [part.clone() for part in side.map(value, cond)]
            if not value.equal(side.value):
                raise AssertionError(f"{side.who}: expected its input unchanged, got it modified")
            for key, entry in _entries(cond).items():
                if not entry.equal(_entries(subject.cond)[key]):
                    raise AssertionError(
                        f"{side.who}: expected the condition{_at(key)} unchanged, got it modified"
                    )
            _assert_same_state(side.who, subject.layer, before)
            _assert_identical(f"{side.who}, called again", side.map(value, cond), first)


def all_checks() -> tuple[Check, ...]:
    """The checks in the order in which their failures explain one another."""
    return (
        check_shapes,
        check_round_trip,
        check_logdet,
        check_independent_samples,
        check_gradients,
        check_condition,
        check_low_precision,
        check_compiles,
        check_copies,
        check_prepare,
        check_reversible,
        check_fold,
        check_pure,
    )


def check_bijection(layer_or_example: type[Bijection] | Example) -> None:
    """Run all checks on an example, or on all examples of a layer.

    Raises:
        AssertionError: one fails, or the layer has no examples.
    """
    if isinstance(layer_or_example, Example):
        examples = [layer_or_example]
    else:
        examples = examples_of(layer_or_example)
    for example in examples:
        for check in all_checks():
            check(example)


def _subject(
    example: Example,
    draw: Draw,
    dtype: torch.dtype = torch.float64,
    layer_dtype: torch.dtype | None = None,
) -> Subject:
    x, cond = random_inputs(example, draw, dtype)
    layer = randomized(example, draw.seed, layer_dtype or dtype)
    who = type(layer).__name__ + (f" ({example.name})" if example.name else "")
    # The shape on the noise side, asked of a layer of its own, so that nothing this call may do to
    # its layer or input is missed later.
    wide = wide_dtype(x)
    probe = randomized(example, draw.seed, wide)
    if {*map(id, layer.parameters())} & {*map(id, probe.parameters())}:
        raise AssertionError(
            f"{who}: expected build() to make a fresh layer, got a shared parameter"
        )
    with torch.no_grad():
        shape = probe(x.to(wide), _each(cond, lambda entry: entry.to(wide)))[0].shape
    y_side = Example(example.build, tuple(shape[1:]))
    y, _ = random_inputs(y_side, Draw(draw.batch, draw.seed + 1, draw.scale), dtype)
    return Subject(who, layer, x, y, cond)


def _entries(cond: Cond) -> Mapping[str, Tensor]:
    if cond is None:
        return {}
    return cond if isinstance(cond, Mapping) else {"": cond}


def _each(cond: Cond, change: Callable[[Tensor], Tensor], only: str | None = None) -> Cond:
    if isinstance(cond, Mapping):
        return {k: change(v) if only in (None, k) else v for k, v in cond.items()}
    return None if cond is None else change(cond)


def _rows(cond: Cond, rows: Any) -> Cond:
    return _each(cond, lambda entry: entry[rows])


def _at(key: str) -> str:
    return f"'s entry {key!r}" if key else ""


def _state(layer: Bijection) -> dict[str, Tensor]:
    tensors = (*layer.named_parameters(), *layer.named_buffers())
    return {name: tensor.detach().clone() for name, tensor in tensors}


def _assert_same_state(who: str, layer: Bijection, before: dict[str, Tensor]) -> None:
    after = _state(layer)
    _assert_equal(who, "unchanged names of parameters and buffers", list(after), list(before))
    changed = [name for name, tensor in after.items() if not _same_bits(tensor, before[name])]
    if changed:
        raise AssertionError(f"{who}: expected the layer's state unchanged, got another {changed}")


def _assert_equal(who: str, what: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise AssertionError(f"{who}: expected {what} {expected}, got {got}")


def _assert_close(who: str, what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    _assert_equal(who, f"{what}, shape", got.shape, expected.shape)
    if torch.allclose(got, expected, rtol=tolerance, atol=tolerance):
        return
    worst = int((got - expected).abs().argmax())
    raise AssertionError(
        f"{who}: expected {what}, {expected.flatten()[worst].item():.10g} ± {tolerance:g}, "
        f"got {got.flatten()[worst].item():.10g}"
    )


def _assert_results_close(who: str, got: Any, expected: Any, tolerance: float) -> None:
    for what, a, b in zip(("the same value", "the same log-det"), got, expected, strict=True):
        _assert_close(who, what, a, b, tolerance)


def _assert_identical(who: str, got: Any, expected: Any) -> None:
    for what, a, b in zip(("value", "log-det"), got, expected, strict=True):
        if not _same_bits(a, b):
            raise AssertionError(f"{who}: expected the identical {what} {b}, got {a}")


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.equal(b)
