"""Make the model card's picture, docs/contact_sheet.jpg: pictures that may be shared, dark and as
the weights brighten them; where there is a bright original, it stands beside them.

python examples/contact_sheet.py [--weights W]

It needs scikit-image, whose pictures are darkened by 4 stops in linear light, with a camera's
noise (variance 10⁻⁴·signal + 1.6·10⁻⁷), and rounded to 8 bits:

- chelsea: Stéfan van der Walt's cat, CC0
- astronaut: Eileen Collins, NASA, public domain

and, from this folder, dark already: rocket.jpg, SpaceX 2015, public domain; coffee_dark.jpg, Rachel
Michetti, CC0, darkened likewise.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from llflow import enhance, load
from llflow.atomic import write_atomically
from llflow.picture.files import read, to_pil
from llflow.picture.light import GAMMA

HERE = Path(__file__).parent
WIDTH, HEIGHT, GAP = 400, 270, 6


def darkened(bright, stops=4):
    """4 stops less light and a camera's noise, in 8 bits."""
    light = bright**GAMMA / 2**stops
    noise = torch.randn(light.shape, generator=torch.Generator().manual_seed(0))
    light = (light + (1e-4 * light + 1.6e-7).sqrt() * noise).clamp(min=0)
    return (light ** (1 / GAMMA) * 255).round().clamp(max=255) / 255


def rows():
    """(dark, bright original or None)."""
    for name in ("rocket.jpg", "coffee_dark.jpg"):
        yield read(HERE / name).image, None
    for original in (data.chelsea(), data.astronaut()):
        bright = torch.from_numpy(original).permute(2, 0, 1) / 255
        yield darkened(bright), bright


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="tiny", help="by name or file")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "contact_sheet.jpg")
    args = parser.parse_args(argv)
    model = load(args.weights).fold()
    sheet = Image.new("RGB", (3 * (WIDTH + GAP) - GAP, 4 * (HEIGHT + GAP) - GAP), "white")
    for row, (dark, bright) in enumerate(rows()):
        pictures = [dark, enhance(model, dark), *([] if bright is None else [bright])]
        for column, picture in enumerate(pictures):
            small = to_pil(picture)
            small.thumbnail((WIDTH, HEIGHT))
            sheet.paste(small, (column * (WIDTH + GAP), row * (HEIGHT + GAP)))
    write_atomically(args.out, lambda file: sheet.save(file, "JPEG", quality=88))


if __name__ == "__main__":
    main()
