"""The settings of a training run: one frozen dataclass, from a file, options, or both."""

from __future__ import annotations

import math
import tomllib
from dataclasses import field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import model_validator as validator
from pydantic.dataclasses import dataclass

from llflow.errors import UsageError
from llflow.network.model import KEEP, PRIORS, SIZES, Config, LeanConfig, LLFlow
from llflow.network.precision import PRECISIONS
from llflow.training.objective import LOSSES, Objective

SHIPPED = Path(__file__).parents[1] / "recipes"
ANNEALINGS = ("halving", "cosine")
SIZES_LOOK_LIKE = (
    "sizes as [factor, share of the steps], [factor, share, crop] or [factor, share, crop, batch] "
    "each, whole but for the share, the crop a multiple of 8"
)
CHOICES = {
    "size": SIZES,
    "prior": PRIORS,
    "loss": LOSSES,
    "annealing": ANNEALINGS,
    "precision": PRECISIONS,
    "keep": KEEP,
}


class RecipeError(UsageError):
    """A recipe file or a setting isn't as it should be."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def _among(name: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in CHOICES[name]:
            raise ValueError(f"{name} among {', '.join(CHOICES[name])}")
        return value

    return AfterValidator(check)


def _tuples(value: Any) -> Any:
    """What TOML has as arrays, and a command line as FACTOR:SHARE[:CROP[:BATCH]],…, in
    tuples."""
    if isinstance(value, str):
        try:
            parts = [part.split(":") for part in value.split(",")]
            value = [[float(n) if "." in n else int(n) for n in part] for part in parts]
        except ValueError as error:
            raise ValueError(SIZES_LOOK_LIKE) from error
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _sizes(sizes: tuple[tuple[int | float, ...], ...]) -> tuple[tuple[int | float, ...], ...]:
    for size in sizes:
        whole = all(isinstance(number, int) for number in (*size[:1], *size[2:]))
        if not (len(size) in (2, 3, 4) and whole and min(size) > 0 and _is_crop(*size[2:3])):
            raise ValueError(SIZES_LOOK_LIKE)
    if sizes and not math.isclose(sum(size[1] for size in sizes), 1, abs_tol=1e-6):
        raise ValueError("the shares of sizes to be 1 together")
    return sizes


def _is_crop(crop: float = 8) -> bool:
    return crop % 8 == 0


Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Crop = Annotated[int, Field(ge=8, multiple_of=8)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
Part = Annotated[float, Field(ge=0, le=1)]
PositiveWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sizes = Annotated[
    tuple[tuple[int | float, ...], ...], BeforeValidator(_tuples), AfterValidator(_sizes)
]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Settings:
    """Names, types, ranges, defaults and meanings; `llflow train --help` shows the same."""

    size: Annotated[str, _among("size")] = _setting("tiny", "of the network: tiny, small or large")
    weights: str = _setting("", "to start from: shipped ones by name, or a .safetensors file")
    prior: Annotated[str, _among("prior")] = _setting(
        "color_map", "of the latent: color_map, or standard for the paper's w/o"
    )
    encoder_only: bool = _setting(False, "no flow: the encoder makes the picture, with --loss l1")
    steps: Positive = _setting(30_000, "of the optimiser, in all; not looked at with hours")
    hours: Weight = _setting(0.0, "for everything, which decide how many steps are taken; 0: steps")
    batch: Positive = _setting(16, "samples per step, over all processes")
    crop: Crop = _setting(160, "side of a sample in pixels, a multiple of 8")
    sizes: Sizes = _setting(
        (),
        "pictures averaged down by a factor for a share of the steps, one after another: "
        "FACTOR:SHARE[:CROP[:BATCH]],…",
    )
    learning_rate: PositiveWeight = _setting(5e-4, "Adam's, after the warm-up")
    annealing: Annotated[str, _among("annealing")] = _setting(
        "halving", "of the learning rate: halving at 50, 75, 90 and 95 %, or cosine to 1 %"
    )
    nets_rate: Rate = _setting(1.0, "of the flow's nets, as a factor of the learning rate")
    scales_rate: Rate = _setting(
        1.0, "of ActNorms, mixings and the nets' log scales, as a factor of the learning rate"
    )
    warmup: Count = _setting(500, "steps in which the learning rate rises, at most a tenth of all")
    beta2: Share = _setting(0.999, "Adam's decay of squared gradients")
    loss: Annotated[str, _among("loss")] = _setting(
        "nll", "nll, l1 (of the picture at the prior's mean) or nll+l1"
    )
    l1_weight: PositiveWeight = _setting(30.0, "bits per pixel for an l1 error of 1")
    exposure_free: Part = _setting(
        0.0, "share of l1 that is taken of the picture at the reference's mean"
    )
    structure: Weight = _setting(0.0, "bits per pixel for an SSIM of 0 in place of 1, beside l1")
    colors: Weight = _setting(0.0, "bits per pixel for an error of 1 in the color map, beside l1")
    saturation: Weight = _setting(0.0, "bits per pixel for a picture without color, beside l1")
    map_colors: Weight = _setting(
        0.0, "bits per pixel for an error of 1 in the encoder's color map, with any loss"
    )
    nll_share: Annotated[float, Field(gt=0, le=1)] = _setting(
        1.0, "share of a batch that the likelihood is asked of"
    )
    pretrain: Count = _setting(0, "first steps, which take nll whatever --loss says")
    reference_prior: Share = _setting(0.2, "p, how often the prior is the reference's color map")
    synthetic_share: Share = _setting(0.0, "of samples with a dark picture made from the bright")
    skies: Part = _setting(0.0, "share of the synthetic ones with a night sky, which stays dark")
    unchanged: Part = _setting(0.0, "share of the synthetic ones that are bright already")
    permuted: Part = _setting(0.0, "share of samples with the channels in another order")
    gammas: Part = _setting(0.0, "share of dark samples with another gamma")
    jitter: Weight = _setting(
        0.0, "deviation of the noise in what the likelihood is asked of, in levels of 8 bits"
    )
    gains: Part = _setting(0.0, "share of samples with another exposure, which the network is told")
    illumination_error: Weight = _setting(
        0.1, "deviation of the smooth errors in the log illumination that the network is told"
    )
    illumination_predicted: Part = _setting(
        0.0,
        "share of samples that are told the predicted illumination, with the true mean",
    )
    thumbnails: Count = _setting(
        4, "whole pictures a step from which an illumination branch learns, where there is one"
    )
    average: Share = _setting(0.999, "decay of the moving average of the weights")
    clip: Annotated[float, Field(gt=0)] = _setting(100.0, "largest norm of a step's gradient")
    wildest: Annotated[float, Field(gt=1)] = _setting(
        math.inf, "norm of a gradient, in usual ones, from which its step is left out"
    )
    held_out: Share = _setting(0.1, "share of the scenes kept for validation")
    seed: Count = _setting(0, "decides initialisation, split, samples and priors")
    precision: Annotated[str, _among("precision")] = _setting(
        "auto",
        "of encoder and nets: float32, bf16, or auto for bf16 where the device computes in it; the "
        "latent's stays",
    )
    accumulate: Positive = _setting(1, "parts of the batch that follow one another, to save memory")
    keep: Annotated[str, _among("keep")] = _setting(
        "all", "activations for the backward pass: all; inputs of blocks and steps; or nothing"
    )
    compile: bool = _setting(False, "the networks with torch.compile")

    @validator(mode="after")
    def _together(self) -> Self:
        if self.keep == "nothing" and self.precision == "bf16":
            raise ValueError(
                "keep all or inputs with precision bf16, which can't be inverted, got 'nothing'"
            )
        if self.encoder_only and (self.loss != "l1" or self.pretrain):
            raise ValueError(
                f"loss l1 and pretrain 0 with encoder_only, got {self.loss!r} and {self.pretrain!r}"
            )
        for name in ("exposure_free", "structure", "colors", "saturation"):
            if getattr(self, name) and "l1" not in self.loss:
                raise ValueError(f"loss l1 or nll+l1 with {name}, got {self.loss!r}")
        for name in ("gains", "illumination_predicted"):
            if getattr(self, name) and not isinstance(SIZES[self.size], LeanConfig):
                raise ValueError(
                    f"a size with an illumination branch with {name}, such as tiny, "
                    f"got {self.size!r}"
                )
        if self.skies + self.unchanged > 1:
            raise ValueError(
                "skies and unchanged to be 1 together at most, got "
                f"{self.skies:g} and {self.unchanged:g}"
            )
        return self


class Recipe(Settings):
    """What a run depends on besides the data.

    The defaults are the paper's: batch 16 of 160×160, Adam at 5e-4 halved at 50, 75, 90 and 95 % of
    the steps, reference prior with p = 0.2 (Wang et al., AAAI 2022, "Experimental Settings").
    Warm-up, gradient clipping, weight averaging and bf16 networks are added.

    Raises:
        RecipeError: a setting is unknown, has another type, or is out of range.
    """

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise RecipeError(_in_words(error)) from None

    @classmethod
    def read(cls, source: str | Path) -> Self:
        """The recipe of a TOML file, whose keys are the settings; or a shipped one, by name.

        Raises:
            RecipeError: no such file, not TOML, or not a recipe.
        """
        shipped = SHIPPED / f"{source}.toml"
        path = shipped if str(source) in cls.shipped() else Path(source)
        try:
            values = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError as error:
            raise RecipeError(
                f"{source}: no such file, nor a shipped recipe ({', '.join(cls.shipped())})"
            ) from error
        except OSError as error:
            raise RecipeError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise RecipeError(f"{path}: not TOML ({error})") from error
        try:
            return cls(**values)
        except RecipeError as error:
            raise RecipeError(f"{path}: {error}") from error

    @staticmethod
    def shipped() -> list[str]:
        """Names of the recipes that come with the package."""
        return sorted(path.stem for path in SHIPPED.glob("*.toml"))

    def objective(self, model: LLFlow) -> Objective:
        """What a network is trained for."""
        return Objective(
            model,
            self.l1_weight,
            exposure_free=self.exposure_free,
            structure=self.structure,
            colors=self.colors,
            saturation=self.saturation,
            map_colors=self.map_colors,
            nll_share=self.nll_share,
        )

    def config(self) -> Config | LeanConfig:
        """Of the network that is trained."""
        config = replace(SIZES[self.size], prior=self.prior)
        return config.without_flow() if self.encoder_only else config


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "unexpected_keyword_argument":
        names = [setting.name for setting in fields(Settings)]
        (near,) = get_close_matches(name, names, n=1, cutoff=0)
        return f"no setting is called {name!r}; did you mean {near!r}?"
    if first["type"] == "value_error":
        expected = str(first.get("ctx", {})["error"])
    else:
        expected = f"{name} to {first['msg'].removeprefix('Input should ')}"
    came = f", got {first['input']!r}" if name else ""
    return f"recipe: expected {expected}{came}"
