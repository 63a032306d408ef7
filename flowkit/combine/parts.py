"""What the combinators ask of the bijections they are made of."""

from __future__ import annotations

from flowkit.contract import Bijection


def require_bijection(who: object, part: object) -> Bijection:
    """Return `part` if it is a bijection that is ready for use.

    Raises:
        TypeError: it is something else, or its class forgot `super().__init__()`.
    """
    name = type(who).__name__
    if isinstance(part, type) and issubclass(part, Bijection):
        raise TypeError(f"{name}: expected a bijection, got the class {part.__name__} (call it)")
    if isinstance(part, list | tuple):
        raise TypeError(
            f"{name}: expected bijections, got {type(part).__name__} (unpack it: *layers)"
        )
    if not isinstance(part, Bijection):
        raise TypeError(f"{name}: expected a bijection, got {type(part).__name__}")
    if "_modules" not in vars(part):
        raise TypeError(
            f"{name}: expected {type(part).__name__}.__init__ to call super().__init__() first"
        )
    return part
