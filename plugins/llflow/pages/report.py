"""Many pictures before and after, on one page that needs nothing else: no service, no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape
from io import BytesIO
from pathlib import Path
from typing import IO

from torch.nn.functional import interpolate

from llflow.atomic import write_atomically
from llflow.errors import LLFlowError
from llflow.pages import SLIDER
from llflow.picture import files

SIDE = 960  # pixels of the longer side, of each picture on the page
QUALITY = 85


def write(
    path: Path,
    pairs: Iterable[tuple[Path, Path]],
    max_pixels: int = files.MAX_PIXELS,
    *,
    overwrite: bool = True,
) -> list[str]:
    """Write a page with a slider for each pair of a picture and its result.

    Args:
        path: of the page, which appears whole or not at all.
        pairs: files, dark and bright.
        max_pixels: larger pictures are left out.
        overwrite: replace a file that is there.

    Returns:
        which pairs are left out and why, a line each.

    Raises:
        FileExistsError: a file is there, also if it came while this one was made.
        OSError: the page can't be written.
    """
    style = (SLIDER / "slider.css").read_text() + (SLIDER.parent / "report.css").read_text()
    script = (SLIDER / "slider.js").read_text()
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'"
    )
    left_out = []

    def fill(file: IO[bytes]) -> None:
        head = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f"<title>Before and after</title>\n<style>{style}</style>\n</head>\n<body>\n"
            "<h1>Before and after</h1>\n"
            "<p>Left of each divider is the dark original. Drag it, or use the arrow keys.</p>\n"
            "<main>\n"
        )
        file.write(head.encode())
        for dark, bright in pairs:
            try:
                file.write(_section(dark, bright, max_pixels).encode())
            except (OSError, LLFlowError) as error:
                why = getattr(error, "strerror", None) or error
                left_out.append(f"{dark}: not in the report ({why})")
        file.write(f"</main>\n<script>{script}</script>\n</body>\n</html>\n".encode())

    write_atomically(path, fill, overwrite=overwrite)
    return left_out


def _section(dark: Path, bright: Path, max_pixels: int) -> str:
    name = escape(dark.name.encode(errors="replace").decode())
    images = [_image(files.read(path, max_pixels)) for path in (bright, dark)]
    return (
        f'<section>\n<h2>{name}</h2>\n<div class="slider">\n'
        f'<img class="after" alt="{name}, bright" src="{images[0]}">\n'
        f'<img class="before" alt="{name}, dark original" src="{images[1]}">\n'
        f'<input type="range" min="0" max="100" value="50" aria-label="Divider of {name}">\n'
        "</div>\n</section>\n"
    )


def _image(picture: files.Picture) -> str:
    """A small JPEG as an URL."""
    image = picture.image
    share = SIDE / max(image.shape[1:])
    if share < 1:
        size = [max(1, round(share * side)) for side in image.shape[1:]]
        image = interpolate(image[None], size=size, mode="area")[0]
    encoded = BytesIO()
    files.to_pil(image).save(encoded, format="JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(encoded.getvalue()).decode()}"


def _digest(text: str) -> str:
    """As a content security policy names what stands in the page itself."""
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
