"""The network of the tests; as a program, `llflow` with it in the place of tiny."""

import sys

import torch

from llflow import Config, LLFlow, cli
from llflow.network.model import SIZES

NANO = Config(features=8, growth=4, blocks=2, taps=(1,), steps=1, hidden=8, scale_floor=0.1)


def random_model(config):
    """Random, but so that results depend on the dark picture and aren't all clipped."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LLFlow(config)
        model.initialize(torch.rand(2, 3, 32, 32), torch.rand(2, 6, 32, 32))
        for parameter in model.flow.parameters():
            if parameter.dim() == 4 and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
    return model.eval()


if __name__ == "__main__":
    SIZES["tiny"] = NANO
    sys.exit(cli.main())
