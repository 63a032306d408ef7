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


class OverLimit(LLFlowError, ValueError):
    """Something is larger, or takes more, than it may.

    Args:
        what: the message.
        limit: the argument that says how much may be, if there is one.
    """

    def __init__(self, what: str, limit: str | None = None) -> None:
        super().__init__(f"{what} ({limit})" if limit else what)
        self.what, self.limit = what, limit

    def by_option(self) -> str:
        """The message as the command line has it, where the argument is an option."""
        return f"{self.what} (--{self.limit.replace('_', '-')})" if self.limit else self.what


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
