"""What llflow raises about what it was given: one ladder, whose rungs say what is to blame."""

from __future__ import annotations


class LLFlowError(Exception):
    """Something that was given can't be used; the message says what, in one line.

    Attributes:
        exit_code: what the command line ends with.
    """

    exit_code = 1


class UsageError(LLFlowError, ValueError):
    """What was asked for doesn't go together, whatever the files hold."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
