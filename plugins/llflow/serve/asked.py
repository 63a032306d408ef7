"""What a request may ask for: `llflow enhance`'s settings by the same names, strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llflow.enhancement import AUTO
from llflow.picture.files import FLOAT
from llflow.settings import Settings

Finite = Field(allow_inf_nan=False)


class Strict(BaseModel):
    """Settings of which none is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Light(Strict):
    """What is decided after the network: cheap to change."""

    brightness: Annotated[float, Finite] = Field(
        0.0, ge=-10, le=10, description="Stops by which the result is brighter."
    )
    exposure: Literal["auto"] | Annotated[float, Finite, Field(gt=0, lt=1)] = Field(
        AUTO, description="Mean of the result before brightness; auto leaves it to the network."
    )
    strength: Annotated[float, Finite] = Field(
        1.0, ge=0, le=1, description="Share of the result in a blend with the input."
    )


class Output(Strict):
    """How the result is written; what is left out is as in the input."""

    format: Literal["PNG", "JPEG", "WEBP", "BMP", "TIFF", "AVIF"] | None = Field(
        None, description="Of the result."
    )
    depth: Literal["8", "16", "32f"] | None = Field(None, description="Bits a channel.")
    quality: int | None = Field(None, ge=1, le=100, description="Of JPEG, WebP and AVIF.")

    @property
    def bits(self) -> int | None:
        """As `files.write` has it."""
        return {"8": 8, "16": 16, "32f": FLOAT, None: None}[self.depth]


class Drawing(Strict):
    """What the network is asked for."""

    samples: int = Field(1, ge=1, le=2**31, description="Average so many samples.")
    temperature: Annotated[float, Finite] | None = Field(
        None, ge=0, le=1e6, description="Spread of the samples; 0, or 1 with several samples."
    )
    seed: int = Field(0, ge=-(2**63), lt=2**63, description="Of the samples.")


class Finish(Output, Light):
    """What can be asked of a picture that the network has done."""

    @property
    def light(self) -> Light:
        return Light(**self.model_dump(include=set(Light.model_fields)))


class Asked(Output, Light, Drawing):
    """All of it."""

    @property
    def finish(self) -> Finish:
        return Finish(**self.model_dump(include=set(Finish.model_fields)))

    def settings(self, precision: str) -> Settings:
        """As the command and Python have them."""
        return Settings(**self.model_dump(), precision=precision)
