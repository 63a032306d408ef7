"""Every layer of flowkit and of the installed plug-ins, held to the contract."""

from flowkit.testing import parametrize_with_checks


@parametrize_with_checks()
def test_layer(check):
    check()
