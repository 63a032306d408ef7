"""Recipes: what they refuse, what the shipped ones hold, and how files and options go together."""

import math
import re
from dataclasses import asdict

import pytest

from llflow.network.model import SIZES
from llflow.training.recipe import Recipe, RecipeError


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "huge"},
        {"prior": "none"},
        {"loss": "l2"},
        {"precision": "fp16"},
        {"keep": "some"},
        {"steps": 0},
        {"batch": -1},
        {"accumulate": 0},
        {"crop": 20},
        {"crop": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"learning_rate": math.inf},
        {"l1_weight": 0.0},
        {"l1_weight": math.inf},
        {"clip": 0.0},
        {"warmup": -1},
        {"pretrain": -1},
        {"seed": -1},
        {"seed": 2**63},
        {"reference_prior": 1.0},
        {"synthetic_share": -0.1},
        {"average": 1.0},
        {"held_out": 1.5},
        {"hours": -1.0},
        {"hours": math.inf},
        {"annealing": "linear"},
        {"beta2": 1.0},
        {"exposure_free": 1.5},
        {"structure": -1.0},
        {"colors": math.nan},
        {"sizes": ((4,), (1, 1.0))},
        {"sizes": ((4, 1.0, 96, 1, 1),)},
        {"sizes": ((0, 1.0),)},
        {"sizes": ((1.5, 1.0),)},
        {"sizes": ((2, 0.0), (1, 1.0))},
        {"sizes": ((1, 1.0, 100),)},
        {"sizes": ((1, 1.0, 96, 2.5),)},
        {"sizes": ((1, 1.0, 96, 0),)},
        {"nll_share": 0.0},
        {"gains": 1.5},
        {"skies": -0.1},
        {"illumination_error": math.inf},
        {"thumbnails": -1},
        {"scales_rate": 0.0},
        {"nets_rate": 2.0},
        {"wildest": 1.0},
        {"sizes": ((2, 0.5), (1, 0.4))},
    ],
    ids=str,
)
def test_settings_out_of_range(changes):
    ((name, value),) = changes.items()
    came = re.escape(repr(value))
    with pytest.raises(RecipeError, match=f"^recipe: expected .*{name}.* got {came}$"):
        Recipe(**changes)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("steps", 3.0, "integer"),
        ("steps", True, "integer"),
        ("clip", "50", "number"),
        ("clip", True, "number"),
        ("compile", 1, "boolean"),
        ("size", 1, "string"),
        ("sizes", 3, "tuple"),
    ],
)
def test_settings_of_another_type(name, value, wanted):
    message = f"^recipe: expected {name} to be a valid {wanted}, got {value!r}$"
    with pytest.raises(RecipeError, match=message):
        Recipe(**{name: value})


def test_whole_numbers_are_numbers():
    assert repr(Recipe(clip=50).clip) == "50.0"
    assert Recipe(clip=math.inf).clip == math.inf  # no clipping


def test_an_unknown_setting_is_named_with_the_nearest():
    message = r"^no setting is called 'stesp'; did you mean 'steps'\?$"
    with pytest.raises(RecipeError, match=message):
        Recipe(stesp=3)


def test_sizes_come_as_arrays_or_as_text():
    expected = ((4, 0.4, 96, 8), (2, 0.3, 112), (1, 0.3))
    assert Recipe(sizes=[[4, 0.4, 96, 8], [2, 0.3, 112], [1, 0.3]]).sizes == expected
    assert Recipe(sizes="4:0.4:96:8,2:0.3:112,1:0.3").sizes == expected
    with pytest.raises(RecipeError, match=r"recipe: expected sizes as .*, got 'half'$"):
        Recipe(sizes="half")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_only": True}, "loss l1 and pretrain 0 with encoder_only, got 'nll' and 0$"),
        ({"encoder_only": True, "loss": "l1", "pretrain": 5}, "got 'l1' and 5$"),
        ({"keep": "nothing", "precision": "bf16"}, "with precision bf16, .*, got 'nothing'$"),
        ({"structure": 8.0}, "loss l1 or nll.l1 with structure, got 'nll'$"),
        ({"colors": 8.0}, "with colors, got 'nll'$"),
        ({"exposure_free": 0.5}, "with exposure_free, got 'nll'$"),
        ({"saturation": 1.0}, "with saturation, got 'nll'$"),
        ({"gains": 0.3, "size": "small"}, "an illumination branch with gains, .*, got 'small'$"),
        ({"skies": 0.6, "unchanged": 0.5}, "1 together at most, got 0.6 and 0.5$"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(RecipeError, match=message):
        Recipe(**changes)


def test_networks_of_recipes(nano_size):
    assert Recipe(size="large").config() == SIZES["large"]
    assert Recipe().config() == SIZES["tiny"]
    assert Recipe(prior="standard").config().prior == "standard"
    encoder = Recipe(encoder_only=True, loss="l1").config()
    assert encoder == Recipe().config().without_flow()
    assert (encoder.steps, encoder.color_head) == (0, "full")


# --- shipped ---------------------------------------------------------------------------------

PAPER = {
    "batch": 16,
    "crop": 160,
    "learning_rate": 5e-4,
    "loss": "nll",
    "reference_prior": 0.2,
    "weights": "",
    "prior": "color_map",
}


def test_every_shipped_recipe_reads():
    assert Recipe.shipped() == ["fine-tune", "large", "small", "tiny"]
    for name in Recipe.shipped():
        assert isinstance(Recipe.read(name), Recipe)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("small", {"size": "small", "steps": 45_000}),
        ("large", {"size": "large", "steps": 40_000, "warmup": 3_000}),
    ],
)
def test_recipes_hold_the_figures_of_the_paper_and_its_release(name, expected):
    recipe = asdict(Recipe.read(name))
    expected = PAPER | expected
    assert {key: recipe[key] for key in expected} == expected


def test_tiny_is_made_for_a_processor():
    recipe = Recipe.read("tiny")
    assert recipe.hours > 0
    assert recipe.precision == "auto"
    assert {size[0] for size in recipe.sizes} == {4, 2, 1}
    assert recipe.wildest < math.inf


def test_fine_tuning_starts_from_the_shipped_weights_of_its_size():
    recipe = Recipe.read("fine-tune")
    assert (recipe.size, recipe.weights) == ("tiny", "tiny")


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"stesp = 3", "no setting is called 'stesp'; did you mean 'steps'[?]$"),
        (b"learning-rate = 1e-4", "no setting is called 'learning-rate'; did you mean 'learning_r"),
        (b"[train]\nsteps = 3", "no setting is called 'train'"),
        (b"steps = 3\nclip = '9'", "recipe: expected clip to be a valid number, got '9'"),
        (b"steps = 0", "recipe: expected steps to be greater than 0, got 0"),
        (b"steps : 3", r"not TOML \(.*line 1"),
        (b"steps = 3\nsteps = 4", "not TOML"),
        (b"size = '\xff'", "not TOML"),
        (b"\x00\x01", "not TOML"),
        (None, "no such file, nor a shipped recipe .fine-tune, large, small, tiny"),
        ("folder", "Is a directory"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=f"^{path}: {message}") as raised:
        Recipe.read(path)
    assert "\n" not in str(raised.value)


def test_a_file_holds_what_differs_from_the_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('steps = 12_000\nloss = "nll+l1"\nclip = 50\nsizes = [[2, 0.5], [1, 0.5]]\n')
    sizes = ((2, 0.5), (1, 0.5))
    assert Recipe.read(path) == Recipe(steps=12_000, loss="nll+l1", clip=50.0, sizes=sizes)
