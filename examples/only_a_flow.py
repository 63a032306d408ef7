"""Make the pictures of docs/flow.md: what only a flow can do, on the cup of coffee.

python examples/only_a_flow.py [--out DIR]

- flow_samples.jpg: three textures at three brightnesses
- flow_uncertainty.jpg: how far eight samples differ
- flow_explain.jpg: the result and the photograph itself (scikit-image's), damaged in three places,
  and their gradient activation maps: noise of 8/255 at the right above, blur of 3 pixels at the
  left below, a violet cast at the right below
"""

import argparse
from pathlib import Path

import skimage.data
import torch
from PIL import ImageFilter

import llflow
from llflow.atomic import write_atomically
from llflow.picture.files import to_pil
from llflow.picture.heat import colored, overlaid, with_bar
from llflow.picture.inputs import tensor_of
from llflow.picture.sheet import contact_sheet, in_stops

HERE = Path(__file__).parent
DARK = HERE / "coffee_dark.jpg"
STOPS = [-1, 0, 1]


def damaged(bright):
    """Noise, blur and a color cast, each in a square of 100 pixels."""
    picture = bright.clone()
    noisy, blurred, tinted = (
        (slice(None), slice(top, top + 100), slice(left, left + 100))
        for top, left in ((40, 440), (250, 20), (250, 460))
    )
    noise = torch.randn(3, 100, 100, generator=torch.Generator().manual_seed(0))
    picture[noisy] += 8 / 255 * noise
    picture[blurred] = tensor_of(to_pil(bright).filter(ImageFilter.GaussianBlur(3)))[blurred]
    picture[tinted] *= torch.tensor([1.0, 0.75, 1.3])[:, None, None]
    return picture.clamp(0, 1)


def samples(model):
    pictures = llflow.variants(model, DARK, STOPS)
    rows = [f"sample {number + 1}" for number in range(len(pictures))]
    columns = [in_stops(stops) for stops in STOPS]
    return contact_sheet(pictures, rows=rows, columns=columns, cell=360)


def uncertainty(model):
    spread = llflow.uncertainty(model, DARK)
    title = "standard deviation over 8 samples, of 255"
    return with_bar(colored(spread * 255 / 20), title, "0", "20")


def explained(model):
    bright = llflow.enhance(model, DARK)
    photograph = torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1) / 255
    pictures = [damaged(bright), damaged(photograph)]
    maps = [overlaid(picture, llflow.explain(model, DARK, picture)) for picture in pictures]
    rows = [[picture, tensor_of(map)] for picture, map in zip(pictures, maps, strict=True)]
    sheet = contact_sheet(rows, rows=["a result", "a photograph"], columns=["damaged", "map"])
    return with_bar(sheet, "the likelihood's gradient, by rank", "least", "most")


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="tiny", help="by name or file")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs", help="(default docs)")
    args = parser.parse_args(argv)
    model = llflow.load(args.weights).fold()
    for name, draw in (("samples", samples), ("uncertainty", uncertainty), ("explain", explained)):
        drawn = draw(model)
        path = args.out / f"flow_{name}.jpg"
        write_atomically(path, lambda file, drawn=drawn: drawn.save(file, "JPEG", quality=88))


if __name__ == "__main__":
    main()
