"""Make the README's picture, docs/before_after.jpg: the sample pictures beside what the default
weights make of them.

python examples/before_after.py
"""

from pathlib import Path

from PIL import Image

from llflow import enhance, load
from llflow.picture import files

EXAMPLES = Path(__file__).parent
WIDTH, HEIGHT, GAP = 600, 400, 6

model = load().fold()
sheet = Image.new("RGB", (2 * WIDTH + GAP, 2 * HEIGHT + GAP), "white")
for row, name in enumerate(["rocket.jpg", "coffee_dark.jpg"]):
    dark = files.read(EXAMPLES / name).image
    for column, image in enumerate([dark, enhance(model, dark)]):
        place = column * (WIDTH + GAP), row * (HEIGHT + GAP)
        sheet.paste(files.to_pil(image).resize((WIDTH, HEIGHT)), place)
sheet.save(EXAMPLES.parent / "docs" / "before_after.jpg", quality=90)
