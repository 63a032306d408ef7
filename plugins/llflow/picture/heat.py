"""Numbers of a picture's pixels as colors, with a bar that says which color is which number."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from llflow.picture.files import to_pil

# Ends and middle of matplotlib's inferno: lighter is more, also in grey and for the color-blind.
LEAST, MIDDLE, MOST = "#000004", "#bc3754", "#fcffa4"
GAP = 8


def colored(values: Tensor) -> Image.Image:
    """(H, W) in [0, 1] from black by red to yellow; what is outside is clipped."""
    grey = to_pil(values.expand(3, *values.shape)).convert("L")
    return ImageOps.colorize(grey, LEAST, MOST, MIDDLE)


def overlaid(picture: Tensor, values: Tensor) -> Image.Image:
    """`colored` values over a grey copy of the picture (3, H, W), of which 0.3 are seen."""
    grey = to_pil(picture).convert("L").convert("RGB")
    return Image.blend(grey, colored(values), 0.7)


def with_bar(heat: Image.Image, title: str, least: str, most: str) -> Image.Image:
    """The picture with a color bar below, its ends labelled and a title between them."""
    size = min(32, max(12, heat.width // 40))
    font = ImageFont.load_default(size=size)
    needed = sum(round(font.getlength(text)) for text in (least, title, most)) + 4 * GAP
    width, bar = max(heat.width, needed), size
    page = Image.new("RGB", (width, heat.height + bar + 2 * size + 2 * GAP), "white")
    page.paste(heat, ((width - heat.width) // 2, 0))
    ramp = Image.linear_gradient("L").rotate(90).resize((width - 2 * GAP, bar))
    page.paste(ImageOps.colorize(ramp, LEAST, MOST, MIDDLE), (GAP, heat.height + GAP))
    draw = ImageDraw.Draw(page)
    below = heat.height + bar + 2 * GAP
    for text, place, anchor in (
        (least, GAP, "la"),
        (title, width // 2, "ma"),
        (most, width - GAP, "ra"),
    ):
        draw.text((place, below), text, "black", font, anchor=anchor)
    return page
