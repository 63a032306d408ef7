"""What can be asked of an enhancement: the same settings give the same bytes, from the command,
from Python, or wherever else they come from."""

from __future__ import annotations

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from llflow.errors import UsageError

SHIPPED = Path(__file__).parent / "presets"

Finite = Annotated[float, Field(allow_inf_nan=False)]


class SettingsError(UsageError):
    """A preset or a setting isn't as it should be."""


class Part(BaseModel):
    """Settings of which none is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Light(Part):
    """What is decided after the network: cheap to change."""

    brightness: Finite = Field(
        0.0, ge=-10, le=10, description="Stops by which the result is brighter."
    )
    exposure: Literal["auto"] | Annotated[Finite, Field(gt=0, lt=1)] = Field(
        "auto", description="Mean of the result before brightness; auto leaves it to the network."
    )
    strength: Finite = Field(
        1.0, ge=0, le=1, description="Share of the result in a blend with the input."
    )


class Drawing(Part):
    """What the network is asked for."""

    samples: int = Field(1, ge=1, le=2**31, description="Average so many samples.")
    temperature: Finite | None = Field(
        None, ge=0, le=1e6, description="Spread of the samples; 0, or 1 with several samples."
    )
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="Of the samples.")


class Output(Part):
    """How the result is written; what is left out is as in the input."""

    format: Literal["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"] | None = Field(
        None, description="Of the result."
    )
    depth: Literal["8", "16", "32f"] | None = Field(None, description="Bits a channel.")
    quality: int | None = Field(None, ge=1, le=100, description="Of JPEG, WebP and AVIF.")

    @property
    def bits(self) -> int | None:
        """The depth as `llflow.picture.files` has it, where 32 is floating point."""
        return {"8": 8, "16": 16, "32f": 32, None: None}[self.depth]


class Settings(Output, Drawing, Light):
    """Settings of `llflow enhance`, by the names that its options have.

    Raises:
        SettingsError: a setting is unknown, of another type, or out of range.
    """

    model_config = ConfigDict(strict=True)

    precision: Literal["auto", "float32", "bf16"] = Field("auto", description="Of the networks.")

    def __init__(self, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise SettingsError(_in_words(error)) from None

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("samples 1 at temperature 0, where all samples are the same")
        return self

    @classmethod
    def read(cls, source: str | Path, **over: Any) -> Self:
        """A preset: a TOML file whose keys are the settings, or a shipped one by name.

        Args:
            source: the name or file.
            over: settings that hold instead of the preset's.

        Raises:
            SettingsError: no such file, not TOML, or not settings.
        """
        shipped = str(source) in cls.shipped()
        path = SHIPPED / f"{source}.toml" if shipped else Path(source)
        try:
            values = tomllib.loads(path.read_bytes().decode())
        except FileNotFoundError as error:
            raise SettingsError(
                f"{source}: no such file, nor a shipped preset ({', '.join(cls.shipped())})"
            ) from error
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from error
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path}: not TOML ({error})") from error
        try:
            return cls(**values | over)
        except SettingsError as error:
            raise SettingsError(f"{path}: {error}") from error

    @staticmethod
    def shipped() -> list[str]:
        """Names of the presets that come with the package."""
        return sorted(path.stem for path in SHIPPED.glob("*.toml"))

    def arguments(self) -> dict[str, Any]:
        """Those of `llflow.enhance`."""
        chosen = self.model_dump(exclude={*Output.model_fields})
        if self.temperature is None:
            chosen["temperature"] = 0.0 if self.samples == 1 else 1.0
        return chosen

    def record(self) -> dict[str, Any]:
        """All of them as they were used, for JSON."""
        return self.arguments() | self.model_dump(include={*Output.model_fields})


def _in_words(error: ValidationError) -> str:
    """The first thing that is wrong, in one line."""
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        (near,) = get_close_matches(name, Settings.model_fields, n=1, cutoff=0)
        return f"no setting is called {name!r}; did you mean {near!r}?"
    if first["type"] == "value_error":
        return f"expected {first.get('ctx', {})['error']}"
    expected = {"exposure": "be 'auto' or a number between 0 and 1"}.get(
        name, first["msg"].removeprefix("Input should ")
    )
    return f"expected {name} to {expected}, got {first['input']!r}"
