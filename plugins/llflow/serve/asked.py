"""What a request may ask for: `llflow enhance`'s settings, as the text of a query or form."""

from __future__ import annotations

from llflow.settings import Drawing, Light, Output, Settings


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
