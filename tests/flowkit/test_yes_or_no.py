"""What says yes or no is True or False: a "no" isn't taken for yes."""

import inspect
from functools import partial

import pytest
import torch

import flowkit
from flowkit import flows

CALLS = {
    ("apply", "inverse"): partial(flowkit.apply, flowkit.Additive(), *torch.zeros(2, 3, 1)),
    ("CausalTransformer", "reverse"): partial(flowkit.CausalTransformer, 2, 2),
    ("Checkerboard", "odd"): flowkit.Checkerboard,
    ("Stripes", "odd"): flowkit.Stripes,
    ("TokenAutoregressive", "reverse"): partial(flowkit.TokenAutoregressive, 2),
    **{
        ("fit", name): partial(flowkit.fit, flows.nsf(2, steps=1), torch.randn(20, 2))
        for name in ("anneal", "initialized", "progress")
    },
    **{
        ("fit_reverse", name): partial(flowkit.fit_reverse, flows.nsf(2, steps=1), sum, steps=1)
        for name in ("anneal", "progress")
    },
}


def of_public_names():
    """The arguments of functions and classes that are annotated as bool."""
    places = dict.fromkeys(flowkit.__all__, flowkit) | dict.fromkeys(flows.__all__, flows)
    for name, place in places.items():
        thing = getattr(place, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            try:
                arguments = inspect.signature(thing).parameters.values()
            except ValueError:  # an exception of C has none
                continue
            yield from ((name, a.name) for a in arguments if a.annotation in (bool, "bool"))


def test_every_argument_of_that_kind_is_tried():
    assert {*of_public_names()} == {*CALLS}


@pytest.mark.parametrize(("name", "argument"), CALLS)
@pytest.mark.parametrize("value", ["no", 0, None])
def test_anything_else_is_refused(name, argument, value):
    words = f"expected {argument} as True or False, got {type(value).__name__}"
    with pytest.raises(TypeError, match=words):
        CALLS[name, argument](**{argument: value})


def test_the_bridges_refuse_it_too():
    zuko = pytest.importorskip("flowkit.interop.zuko", reason="zuko isn't installed")
    with pytest.raises(TypeError, match="FromZuko: expected conditional as True or False, got str"):
        zuko.FromZuko(None, conditional="no")


def test_the_bridge_to_normflows_refuses_it():
    normflows = pytest.importorskip("flowkit.interop.normflows", reason="normflows isn't there")
    with pytest.raises(TypeError, match="FromNormflows: expected conditional as True or False"):
        normflows.FromNormflows(None, conditional="no")
