"""Every layer of flowkit and of the installed plug-ins, held to the contract."""

import pytest
import torch

from flowkit.testing import Draw, all_examples, parametrize_with_checks, random_inputs, randomized


@parametrize_with_checks()
def test_layer(check):
    check()


EACH = pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{layer.__name__}-{example.name or index}")
        for index, (layer, example) in enumerate(all_examples(["flowkit"]))
        if not layer.__module__.startswith("flowkit.interop")
    ],
)


@pytest.mark.parametrize("inverse", [False, True])
@EACH
def test_a_shape_without_channels_is_refused_in_words(example, inverse):
    with pytest.raises(ValueError, match=r"expected samples .*got \(\)"):
        example.build().shape((), inverse=inverse)


@EACH
def test_float64_data_stay_float64_in_a_float32_layer(example):
    """More than is asked of others, whose nets may refuse it."""
    layer = randomized(example, seed=0, dtype=torch.float32)
    x, cond = random_inputs(example, Draw(dtype=torch.float64))
    y, logdet = layer(x, cond)
    back, logdet_back = layer.inverse(y, cond)
    assert {t.dtype for t in (y, logdet, back, logdet_back)} == {torch.float64}
    # Numbers from a float32 net are the same both ways; what is done with them is float64.
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logdet_back, -logdet, rtol=1e-5, atol=1e-5)


@EACH
def test_what_a_subclass_changes_stays_when_given_and_folded(example):
    """A cheaper map stands in for a layer only where it is of that very class."""
    layer = randomized(example, seed=0, dtype=torch.float64)

    class Changed(type(layer)):
        def forward(self, x, cond=None):
            y, logdet = super().forward(x, cond)
            return y, logdet + 1

    layer.__class__ = Changed
    x, cond = random_inputs(example, Draw())
    _, expected = layer(x, cond)
    given, folded = layer.given(cond), layer.fold()
    for other, its_cond in ((given, None), (folded, cond), (folded.given(cond), None)):
        torch.testing.assert_close(other(x, its_cond)[1], expected)
