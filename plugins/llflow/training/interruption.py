"""Ctrl-C during training: the step that it comes in is finished, and saved."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether somebody has asked the run to stop.

    Attributes:
        deferred: whether whoever runs looks at `asked`, between steps; until then it is raised.
        asked: it was.
    """

    deferred = False
    asked = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """The handler of SIGINT; a second one is raised."""
        if self.asked or not self.deferred:
            raise KeyboardInterrupt
        self.asked = True
        sys.stderr.write("\nfinishing this step and saving; once more ends it now\n")


@contextmanager
def noticed(alone: bool) -> Iterator[Interruption]:
    """Within, Ctrl-C can be deferred to the end of a step.

    Args:
        alone: whether this is the only process. Others would wait for one that stops by itself, and
            only a main thread has signals; both leave Ctrl-C as it is.
    """
    interruption = Interruption()
    if not alone or threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = signal.signal(signal.SIGINT, interruption.note)
    try:
        yield interruption
    finally:
        signal.signal(signal.SIGINT, before)
