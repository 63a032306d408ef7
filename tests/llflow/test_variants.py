"""Several textures at several brightnesses, for one pass of the encoder."""

import pytest
import torch

import llflow


@pytest.fixture(scope="module")
def lean():
    return llflow.load().fold()


@pytest.fixture(scope="module")
def dark():
    return torch.rand(3, 21, 30, generator=torch.Generator().manual_seed(1)) / 8


@pytest.fixture
def passes(monkeypatch):
    """How often an encoder ran."""
    seen = []

    def count(model):
        forward = model.encoder.forward
        monkeypatch.setattr(
            model.encoder, "forward", lambda *a, **k: seen.append(1) or forward(*a, **k)
        )
        return seen

    return count


@pytest.mark.parametrize("network", ["nano", "lean"])
def test_at_temperature_0_it_is_the_bracket(request, dark, network):
    model = request.getfixturevalue(network)
    stops, how = [-1, 0, 0.5], {"exposure": 0.4, "strength": 0.7}
    ((darker, same, brighter),) = llflow.variants(
        model, dark, stops, samples=1, temperature=0, **how
    )
    for found, expected in zip(
        (darker, same, brighter), llflow.bracket(model, dark, stops, **how), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_sample_is_the_same_however_many_there_are(nano, dark):
    three = llflow.variants(nano, dark, [0.0, 1.0], samples=3)
    two = llflow.variants(nano, dark, [1.0], samples=2)
    assert [torch.equal(a[1], b[0]) for a, b in zip(three, two, strict=False)] == [True, True]
    assert not torch.equal(three[0][0], three[1][0])


def test_samples_differ_in_texture_not_in_exposure(lean, dark):
    drawn = [x.mean().item() for x in llflow.draw(lean, dark, samples=4)]
    means = [row[0].mean().item() for row in llflow.variants(lean, dark, samples=4)]
    assert max(means) / min(means) < 1.02  # night, lamps and highlights are no factor
    assert max(drawn) / min(drawn) > 1.1


def test_the_encoder_runs_once(nano, dark, passes):
    seen = passes(nano)
    llflow.variants(nano, dark, [-1, 0, 1], samples=3)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"samples": 2, "temperature": 0}, "expected samples = 1"),
        ({"brightnesses": [99]}, "at most ±20 stops"),
        ({"samples": 0}, "samples >= 1"),
    ],
)
def test_arguments_out_of_range(nano, dark, how, message):
    with pytest.raises(ValueError, match=message):
        llflow.variants(nano, dark, **how)
