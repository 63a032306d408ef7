"""Does a flow trained by likelihood enhance better than by l1? (Table 5)

python benchmarks/paper/table5.py --data LOL/our485 --size small --device cuda
"""

from __future__ import annotations

import sys
from functools import partial

import experiment
import trainings
from trainings import Training

ROWS = (
    Training(
        "only encoder, l1",
        "encoder_l1",
        (21.90, 0.8587, 0.1672),
        {"encoder_only": True, "loss": "l1"},
    ),
    Training("whole flow, l1", "flow_l1", (22.68, 0.8391, 0.2038), {"loss": "l1"}, pretrained=True),
    Training("whole flow, NLL", "nll", (25.19, 0.9252, 0.1131)),
)


def main(argv: list[str] | None = None) -> int:
    parser = trainings.parser(
        "table5",
        "Train the encoder alone by l1, the whole flow by l1 (after --pretrain steps by "
        "likelihood) and by likelihood, with equal budgets, and score the results. Started again, "
        "it goes on.",
    )
    return experiment.main(parser, partial(trainings.run, "table5", ROWS), argv)


if __name__ == "__main__":
    sys.exit(main())
