"""The page: one file that needs nothing else, pictures within."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from llflow.votes.study import Study

TEMPLATE = Path(__file__).with_name("page.html")
LONGEST = 2000


def page(study: Study, pictures: Mapping[str, Sequence[Image.Image]]) -> str:
    """HTML that shows the pairs side by side, keeps the choices, and hands them out as a file.

    The pictures hold nothing but pixels: neither names nor metadata tell who made them.

    Args:
        study: what is compared.
        pictures: of every pair's name, that of `study.a` and that of `study.b`.
    """
    left = study.on_the_left()
    shown = []
    for name in study.order():
        first, second = (_embedded(picture) for picture in pictures[name])
        shown.append([first, second] if left[name] == "a" else [second, first])
    data = {"study": study.model_dump(), "order": study.order(), "pictures": shown}
    # A name of a file may hold what would end the script.
    text = json.dumps(data).replace("<", "\\u003c")
    return TEMPLATE.read_text(encoding="utf-8").replace("{{data}}", text)


def fitted(picture: Image.Image, longest: int = LONGEST) -> Image.Image:
    """The picture, made smaller where it is larger than a page needs."""
    smaller = picture.convert("RGB")
    smaller.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return smaller


def _embedded(picture: Image.Image) -> str:
    file = BytesIO()
    Image.frombytes("RGB", picture.size, picture.convert("RGB").tobytes()).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
