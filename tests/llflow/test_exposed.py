"""The layer of exposures keeps the contract, and says what it wants."""

import pytest
import torch

from flowkit.testing import parametrize_with_checks
from llflow.network.exposed import Exposed


@parametrize_with_checks([Exposed])
def test_the_contract(check):
    check()


def test_it_divides_by_the_exposure():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    exposures = torch.tensor([[0.5], [2.0]], dtype=torch.float64)
    y, logdet = Exposed()(x, exposures.log())
    torch.testing.assert_close(y, x / exposures[..., None, None])
    torch.testing.assert_close(logdet, -48 * exposures[:, 0].log())


@pytest.mark.parametrize("cond", [None, torch.zeros(2), torch.zeros(3, 1), torch.zeros(2, 2)])
def test_other_conditions_are_refused(cond):
    with pytest.raises(ValueError, match=r"log exposure as a condition \(2, 1\)"):
        Exposed()(torch.rand(2, 3, 4, 4), cond)
