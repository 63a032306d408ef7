"""The network of the tests; as a program, `llflow` with it in the place of tiny."""

import sys

from llflow import Config, cli
from llflow.network.model import SIZES

NANO = Config(features=8, growth=4, blocks=2, taps=(1,), steps=1, hidden=8, scale_floor=0.1)

if __name__ == "__main__":
    SIZES["tiny"] = NANO
    sys.exit(cli.main())
