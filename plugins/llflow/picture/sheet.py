"""Several pictures on one sheet, in rows and columns with labels."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from llflow.picture.files import to_pil

CELL = 480  # the longest side of a picture on the sheet, in pixels
GAP = 8
PAPER, INK = "white", "black"


def in_stops(stops: float) -> str:
    """A label: "-1 stop", "0 stops", "+0.5 stops"."""
    return f"{f'{stops:+g}' if stops else 0} stop{'s' * (abs(stops) != 1)}"


def contact_sheet(
    pictures: Sequence[Sequence[Tensor]],
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    cell: int = CELL,
) -> Image.Image:
    """Rows of pictures (3, H, W) in [0, 1], made smaller to fit where they are larger.

    Args:
        pictures: of every row from left to right; rows may differ in length.
        rows: a label for each row, at its left; none if empty.
        columns: a label for each column, at the top; likewise.
        cell: the longest side of a picture on the sheet.

    Raises:
        ValueError: there is no picture, or another number of labels than of what they are for.
    """
    if not pictures or not all(pictures):
        raise ValueError("contact_sheet: expected at least one picture in every row")
    widest = max(len(row) for row in pictures)
    for name, labels, count in (("rows", rows, len(pictures)), ("columns", columns, widest)):
        if labels and len(labels) != count:
            raise ValueError(
                f"contact_sheet: expected {count} labels of {name}, or none, got {len(labels)}"
            )
    small = [[to_pil(picture) for picture in row] for row in pictures]
    for picture in (picture for row in small for picture in row):
        picture.thumbnail((cell, cell), Image.Resampling.LANCZOS)
    font = ImageFont.load_default(size=max(12, cell // 20))
    measured = [font.getbbox(label) for label in (*rows, *columns)]
    line = max((round(box[3]) for box in measured), default=0)
    left = max((round(font.getlength(label)) + 2 * GAP for label in rows), default=GAP)
    top = line + 2 * GAP if columns else GAP
    width = max(picture.width for row in small for picture in row)
    height = max(picture.height for row in small for picture in row)
    size = (left + widest * (width + GAP), top + len(small) * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(columns):
        middle = left + column * (width + GAP) + width // 2
        draw.text((middle, top // 2), label, INK, font, anchor="mm")
    for number, row in enumerate(small):
        upper = top + number * (height + GAP)
        if rows:
            draw.text((GAP, upper + height // 2), rows[number], INK, font, anchor="lm")
        for column, picture in enumerate(row):
            sheet.paste(picture, (left + column * (width + GAP), upper))
    return sheet
