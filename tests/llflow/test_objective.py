"""What training minimises, by hand; where its gradients go; what the backward pass remembers."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from short_runs import LEAN_NANO
from skimage.metrics import structural_similarity
from torch.autograd.graph import saved_tensors_hooks

from llflow import LLFlow
from llflow.network.illumination import Light
from llflow.network.model import KEEP
from llflow.network.prior import squeeze_map
from llflow.training.objective import (
    Objective,
    at_mean_of,
    colors,
    illumination_errors,
    paleness,
    similarity,
)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    bright = torch.rand(2, 3, 16, 24, generator=generator)
    return bright, torch.rand(2, 6, 16, 24, generator=generator)


@pytest.fixture
def model(nano):
    return copy.deepcopy(nano).train()


def like(nano, **changes):
    """Another configuration with nano's weights."""
    model = LLFlow(replace(nano.config, **changes))
    model.load_state_dict(nano.state_dict())
    return model


def test_l1_is_the_error_of_the_picture_at_the_priors_mean(model, pair):
    model, (bright, low) = model.double(), (x.double() for x in pair)
    cond = model.condition(low)
    picture, _ = model.flow.bijection.inverse(squeeze_map(cond["color_map"]), cond)
    by_hand = torch.stack([(x - y).abs().mean() for x, y in zip(picture, bright, strict=True)])
    terms = Objective(model, l1_weight=7.0)("l1", bright, low)
    assert terms.keys() == {"loss", "l1"}
    torch.testing.assert_close(terms["l1"], by_hand)
    torch.testing.assert_close(terms["loss"], 7 * by_hand.mean())


def test_nll_is_the_models(model, pair):
    selector = torch.tensor([True, False])
    terms = Objective(model)("nll", *pair, selector)
    assert terms.keys() == {"loss", "nll"}
    torch.testing.assert_close(terms["nll"], model.nll(*pair, selector))
    assert torch.equal(terms["loss"], terms["nll"].mean())


def test_nll_plus_l1_is_the_weighted_sum(model, pair):
    objective = Objective(model, l1_weight=7.0)
    nll, l1, both = (objective(loss, *pair, True) for loss in ("nll", "l1", "nll+l1"))
    torch.testing.assert_close(both["loss"], (nll["nll"] + 7 * l1["l1"]).mean())
    torch.testing.assert_close(both["nll"], nll["nll"])
    torch.testing.assert_close(both["l1"], l1["l1"])


def test_l1_at_the_references_mean(model, pair):
    """By hand, per sample: brightness is forgiven in its share of l1, and only there."""
    bright, low = pair
    picture = model.typical(model.condition(low))
    scaled = torch.stack([x * (y.mean() / x.mean()) for x, y in zip(picture, bright, strict=True)])
    free = (scaled - bright).abs().mean((1, 2, 3))
    terms = Objective(model, 7.0, exposure_free=0.25)("l1", *pair)
    torch.testing.assert_close(terms["exposure_free"], free)
    weighted = 7 * (0.75 * terms["l1"] + 0.25 * free)
    torch.testing.assert_close(terms["loss"], weighted.mean())
    torch.testing.assert_close(terms["l1"], Objective(model)("l1", *pair)["l1"])


def test_scaling_forgives_brightness_and_has_the_gradient_of_the_scale():
    torch.manual_seed(0)
    bright = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    factors = torch.tensor([0.3, 1.7], dtype=torch.float64).view(2, 1, 1, 1)
    torch.testing.assert_close(at_mean_of(bright, bright * factors), bright)
    picture = (bright * factors).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: at_mean_of(bright, x), picture)
    # The scale undoes what a common factor does, so there is no gradient along it.
    noisy = (bright * factors + 0.1 * torch.rand_like(bright)).requires_grad_()
    (at_mean_of(bright, noisy) - bright).square().sum().backward()
    along = (noisy.grad * noisy).sum((1, 2, 3))
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-12)


def test_a_black_picture_is_not_scaled_to_infinity():
    black, bright = torch.zeros(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8)
    scaled = at_mean_of(bright, black)
    assert not scaled.any()
    (scaled - bright).abs().mean().backward()
    assert black.grad.isfinite().all()


def test_similarity_is_scikit_images():
    torch.manual_seed(0)
    x, y = torch.rand(2, 2, 3, 16, 24, dtype=torch.float64)
    expected = [
        structural_similarity(
            a.numpy(), b.numpy(), data_range=1, channel_axis=0, use_sample_covariance=False
        )
        for a, b in zip(x, y, strict=True)
    ]
    assert similarity(x, y).tolist() == pytest.approx(expected, abs=1e-9)  # both in float64
    torch.testing.assert_close(similarity(x, x), torch.ones(2, dtype=torch.float64))


def test_colors_are_of_what_can_be_seen():
    picture = torch.tensor([0.6, 0.3, 0.1]).view(1, 3, 1, 1).expand(1, 3, 8, 4)
    expected = torch.tensor([0.6, 0.3, 0.1]) / 1.03
    torch.testing.assert_close(colors(picture)[0, :, 1, 0], expected)
    assert colors(picture).shape == (1, 3, 2, 1)
    noise = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noise -= noise.mean((2, 3), keepdim=True)
    torch.testing.assert_close(colors(picture[:, :, :4] + noise)[0, :, 0, 0], expected)
    assert not colors(-picture).any()
    dark = torch.full((1, 3, 4, 4), 1e-3).requires_grad_()
    colors(dark)[:, 0].sum().backward()
    assert dark.grad.abs().sum() < 16 / 0.03  # a color map's own slope there is above 300


def test_structure_and_colors_are_weighted_and_shown(model, pair):
    bright, low = pair
    picture = model.typical(model.condition(low))
    terms = Objective(model, 7.0, structure=8.0, colors=3.0)("nll+l1", *pair)
    assert terms.keys() == {"loss", "nll", "l1", "structure", "colors"}
    torch.testing.assert_close(terms["structure"], 1 - similarity(picture, bright))
    by_hand = (colors(picture) - colors(bright)).abs().mean((1, 2, 3))
    torch.testing.assert_close(terms["colors"], by_hand)
    whole = terms["nll"] + 7 * terms["l1"] + 8 * terms["structure"] + 3 * terms["colors"]
    torch.testing.assert_close(terms["loss"], whole.mean())


def test_samples_have_losses_of_their_own(model, pair):
    objective = Objective(model, 7.0, exposure_free=0.5, structure=8.0, colors=3.0)
    both = objective("l1", *pair)
    for index in range(2):
        alone = objective("l1", *(x[index : index + 1] for x in pair))
        for name, term in (item for item in alone.items() if item[0] != "loss"):
            # Batches are convolved in another order.
            torch.testing.assert_close(term, both[name][index : index + 1], rtol=1e-4, atol=1e-5)


def test_an_unknown_loss_is_refused(model, pair):
    with pytest.raises(ValueError, match=r"among nll, l1, nll\+l1, got 'l2'"):
        Objective(model)("l2", *pair)


def test_the_standard_prior_is_a_unit_normal(nano, pair):
    bright, low = (x.double() for x in pair)
    model = like(nano, prior="standard").double()
    cond = model.condition(low)
    z, logdet = model.flow.bijection(bright, cond)
    nats = -0.5 * (z.square() + math.log(2 * math.pi)).sum((1, 2, 3)) + logdet
    expected = -nats / (16 * 24 * math.log(2))
    for from_reference in (False, True):  # the color map is of no account, whosever it is
        terms = Objective(model)("nll", bright, low, from_reference)
        torch.testing.assert_close(terms["nll"], expected)
    picture, _ = model.flow.bijection.inverse(torch.zeros_like(z), cond)
    l1 = Objective(model)("l1", bright, low)["l1"]
    torch.testing.assert_close(l1, (picture - bright).abs().mean((1, 2, 3)))


def moved(model, loss, pair, **options):
    """Names of the parameters with a gradient that isn't zero."""
    model.zero_grad()
    Objective(model)(loss, *pair, **options)["loss"].backward()
    named = model.named_parameters()
    return {name for name, p in named if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize(
    ("loss", "weights"),
    [
        ("nll", {}),
        ("l1", {}),
        ("nll+l1", {}),
        ("l1", {"l1_weight": 1e-30, "structure": 1.0}),
        ("l1", {"l1_weight": 1e-30, "colors": 1.0}),
        ("l1", {"exposure_free": 1.0}),
    ],
    ids=str,
)
def test_gradients_reach_every_parameter(model, pair, loss, weights):
    model.zero_grad()
    Objective(model, **weights)(loss, *pair)["loss"].backward()
    named = model.named_parameters()
    assert [name for name, p in named if p.grad is None or not p.grad.any()] == []


def test_the_color_head_learns_from_its_own_samples_alone(nano, model, pair):
    everything = {name for name, _ in model.named_parameters()}
    head = {"encoder.color_head.weight", "encoder.color_head.bias"}
    assert moved(model, "nll", pair, from_reference=True) == everything - head
    standard = like(nano, prior="standard")
    assert moved(standard, "nll", pair) == everything - head
    # The first net on the way back sees a mean of 0 beside the condition.
    last = max(n for n in everything if n.endswith("net.first.weight") and ".layers.2." in n)
    seen_first = last.rsplit(".", 3)[0].rsplit(".", 1)[0]
    unused = {f"{seen_first}.{4 * nano.config.steps - 1}.net.first.weight"}
    assert moved(standard, "l1", pair) == everything - head - unused
    Objective(standard)("nll", *pair)["loss"].backward()
    grads = [standard.get_parameter(name).grad for name in head]
    assert all(grad is not None for grad in grads)  # 0, so that other processes don't wait for it


# --- memory and precision --------------------------------------------------------------------


def saved_bytes(model, loss, pair):
    """What the backward pass remembers besides parameters; and the gradients it then gives."""
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    sizes = {}

    def pack(tensor):
        if tensor.data_ptr() not in parameters:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.zero_grad()
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        value = Objective(model, l1_weight=7.0)(loss, *pair)["loss"]
    value.backward()
    return sum(sizes.values()), value.detach(), [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("loss", ["nll", "l1"])
def test_keeping_less_takes_less_memory_and_gives_the_same_gradients(model, pair, loss):
    saved, values, gradients = {}, {}, {}
    for keep in KEEP:
        model.keep = keep
        saved[keep], values[keep], gradients[keep] = saved_bytes(model, loss, pair)
    assert saved["nothing"] < saved["inputs"] < saved["all"] / 2
    for keep in ("inputs", "nothing"):
        torch.testing.assert_close(values[keep], values["all"])
        for kept, plain in zip(gradients[keep], gradients["all"], strict=True):
            # "nothing" inverts what it needs: float32 rounding, through some 20 layers.
            atol = 1e-5 * plain.abs().max().item()
            torch.testing.assert_close(kept, plain, rtol=1e-3, atol=atol)


def test_an_unknown_keep_is_refused(model):
    with pytest.raises(ValueError, match="keep among all, inputs, nothing, got 'some'"):
        model.keep = "some"


def test_in_bf16_the_latent_and_its_log_det_stay_float32(model, pair):
    seen = []
    model.encoder.trunk[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    flow = []
    model.flow.bijection.register_forward_hook(lambda m, i, out: flow.extend(out))
    objective = Objective(model, l1_weight=7.0, exposure_free=0.5, structure=1.0, colors=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        terms = objective("nll+l1", *pair)
    assert seen == [torch.bfloat16]
    assert [x.dtype for x in flow] == [torch.float32] * 2
    assert {term.dtype for term in terms.values()} == {torch.float32}
    terms["loss"].backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    plain = objective("nll+l1", *pair)
    # bf16 has 8 bits of mantissa; the nets' outputs are 0.1 or so of what they shift.
    torch.testing.assert_close(terms["nll"], plain["nll"], rtol=2e-2, atol=2e-2)


# --- what a network made for a CPU is asked for ----------------------------------------------


def test_paleness_is_chroma_that_is_missing():
    grey = torch.full((1, 3, 8, 8), 0.5)
    colored = grey + torch.tensor([0.2, 0.0, -0.2]).view(1, 3, 1, 1)
    half = grey + (colored - grey) / 2
    assert paleness(colored, colored).item() == pytest.approx(0, abs=1e-6)
    assert paleness(half, colored).item() == pytest.approx(0.5)
    assert paleness(grey, colored).item() == pytest.approx(1)
    assert paleness(colored, half).item() == 0  # more color is the color term's concern
    assert paleness(grey, grey).isfinite()


def test_saturation_and_the_encoders_colors_are_weighted_and_shown(model, pair):
    bright, low = pair
    cond = model.condition(low)
    objective = Objective(model, 7.0, saturation=3.0, map_colors=5.0)
    terms = objective("nll+l1", *pair)
    assert terms.keys() == {"loss", "nll", "l1", "saturation", "map_colors"}
    torch.testing.assert_close(terms["saturation"], paleness(model.typical(cond), bright))
    reference = bright / (bright.sum(1, keepdim=True) + 0.01)
    by_hand = (cond["color_map"] - reference).abs().mean((1, 2, 3))
    torch.testing.assert_close(terms["map_colors"], by_hand)
    whole = terms["nll"] + 7 * terms["l1"] + 3 * terms["saturation"] + 5 * terms["map_colors"]
    torch.testing.assert_close(terms["loss"], whole.mean())
    assert "map_colors" in objective("nll", *pair)


def test_the_likelihood_of_a_share(model, pair):
    whole = Objective(model)("nll+l1", *pair)
    half = Objective(model, nll_share=0.5)("nll+l1", *pair, torch.tensor([False, True]))
    torch.testing.assert_close(half["nll"], whole["nll"][:1], rtol=1e-4, atol=1e-4)
    assert half["l1"].shape == (2,)
    torch.testing.assert_close(half["loss"], half["nll"].mean() + half["l1"].mean())
    least = Objective(model, nll_share=0.01)("nll", *pair)
    assert least["nll"].shape == (1,)


def test_the_likelihood_is_of_the_noisy_picture_and_its_prior_of_the_clean(model, pair):
    bright, low = pair
    noisy = bright + 0.01 * torch.randn(bright.shape, generator=torch.Generator().manual_seed(1))
    plain = Objective(model)("nll", bright, low, noisy=noisy)
    torch.testing.assert_close(plain["nll"], model.nll(noisy, low))
    terms = Objective(model)("nll", bright, low, torch.tensor([True, False]), noisy=noisy)
    cond = model.condition(low)
    cond["color_map"] = torch.stack([model.reference_color_map(bright)[0], cond["color_map"][1]])
    torch.testing.assert_close(terms["nll"], model.nll(noisy, low, False, cond))


def test_above_a_clipped_reference_everything_is_as_good(model, pair):
    _, low = pair
    picture = model.typical(model.condition(low)).detach()
    bright = picture.clamp(0, 1)
    bright[:, :, :8] = 1
    errors = Objective(model, structure=1.0)._errors(picture + 0.0, bright)
    above = Objective(model, structure=1.0)._errors(
        torch.where((bright == 1) & (picture >= 1), picture + 5, picture), bright
    )
    for name, term in errors.items():
        torch.testing.assert_close(above[name], term)


@pytest.fixture
def lean():
    torch.manual_seed(0)
    return LLFlow(LEAN_NANO).train()


def light_of(bright):
    luminance = bright.mean(1, keepdim=True)
    return {"illumination": luminance, "log_exposure": luminance.mean((1, 2, 3)).log()}


def test_a_lean_network_is_told_the_illumination(lean, pair):
    bright, low = pair
    told = light_of(bright)
    light = Light(told["log_exposure"], torch.zeros(2), torch.ones(2))
    cond = lean.condition(low, light, told["illumination"])
    terms = Objective(lean)("nll+l1", bright, low, **told)
    torch.testing.assert_close(terms["nll"], lean.nll(bright, low, False, cond))
    torch.testing.assert_close(terms["l1"], (lean.typical(cond) - bright).abs().mean((1, 2, 3)))
    terms["loss"].backward()
    branch = dict(lean.illumination.named_parameters(prefix="illumination"))
    for name, parameter in lean.named_parameters():
        assert (parameter.grad is None) == (name in branch), name


def test_the_branch_learns_from_thumbnails_alone(lean, pair):
    bright, low = pair
    wholes = {"thumbnails": torch.rand(3, 6, 64, 96), "luminance": torch.rand(3, 1, 16, 24)}
    terms = Objective(lean, 7.0)("l1", bright, low, **light_of(bright), **wholes)
    assert terms["illumination"].shape == (3,)
    whole = 7 * terms["l1"].mean() + terms["illumination"].mean()
    torch.testing.assert_close(terms["loss"], whole)
    terms["illumination"].mean().backward()
    moved = {name for name, p in lean.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(name.startswith("illumination.") for name in moved)


def test_some_samples_are_told_the_predicted_illumination(lean, pair):
    """Its shape where the crop is, at the true mean; nothing teaches the branch through it."""
    bright, low = pair
    told, size = light_of(bright), bright.shape[2:]
    whole, everywhere = torch.rand(2, 6, 64, 96), torch.eye(2, 3).expand(2, 2, 3)
    chosen = torch.tensor([True, False])
    with torch.no_grad():
        shape = lean.eval().illumination(whole).shape
        over = torch.nn.functional.interpolate(shape, size, mode="bilinear")
        over = over * told["log_exposure"].exp()[:, None, None, None]
    expected = torch.where(chosen[:, None, None, None], over, told["illumination"])
    assert not torch.allclose(expected, told["illumination"], rtol=0.1)
    lean.train()
    predicted = {"whole": whole, "place": everywhere, "is_predicted": chosen}
    terms = Objective(lean)("l1", bright, low, **told, **predicted)
    same = Objective(lean)("l1", bright, low, **told | {"illumination": expected})
    torch.testing.assert_close(terms["l1"], same["l1"])
    assert lean.illumination.training
    terms["loss"].backward()
    assert all(p.grad is None for p in lean.illumination.parameters())


def test_illumination_errors_by_hand():
    luminance = torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    mean = luminance.mean((1, 2, 3))
    shape = luminance / mean[:, None, None, None]
    right = Light(mean.log(), torch.full((2,), 0.5), shape)
    expected = torch.full((2,), 0.3 * math.log(0.5))
    torch.testing.assert_close(illumination_errors(right, luminance), expected)
    brighter = Light(mean.log() + 0.5, torch.full((2,), 0.5), shape)
    l1 = 10 * (math.exp(0.5) - 1) * mean
    expected = 0.3 * (math.log(0.5) + 0.5) + l1
    torch.testing.assert_close(illumination_errors(brighter, luminance), expected)
    flat = Light(mean.log(), torch.full((2,), 0.5), torch.ones(2, 1, 4, 6))
    off = (mean[:, None, None, None] - luminance).abs().mean((1, 2, 3))
    logs = shape.log().abs().mean((1, 2, 3))
    expected = 0.3 * math.log(0.5) + 30 * off + 0.5 * logs
    torch.testing.assert_close(illumination_errors(flat, luminance), expected)
    black = illumination_errors(right, torch.zeros(2, 1, 4, 6))
    assert black.isfinite().all()
