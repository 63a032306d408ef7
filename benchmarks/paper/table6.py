"""Does a latent centred on the color map enhance better than a standard one? (Table 6)

python benchmarks/paper/table6.py --data LOL/our485 --size small --device cuda
"""

from __future__ import annotations

import sys
from functools import partial

import experiment
import trainings
from trainings import Training

ROWS = (
    Training("without color map", "standard", (24.46, 0.9235, 0.1146), {"prior": "standard"}),
    Training("color map, p = 0.5", "p05", (24.85, 0.9232, 0.1192), {"reference_prior": 0.5}),
    Training("color map, p = 0.2", "nll", (25.19, 0.9252, 0.1131)),
)


def main(argv: list[str] | None = None) -> int:
    parser = trainings.parser(
        "table6",
        "Train with a standard normal latent and with one centred on the color map, which is the "
        "reference's own with p = 0.5 or 0.2, with equal budgets, and score the results. Started "
        "again, it goes on; the last run is Table 5's last.",
    )
    return experiment.main(parser, partial(trainings.run, "table6", ROWS), argv)


if __name__ == "__main__":
    sys.exit(main())
