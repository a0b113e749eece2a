"""How meshctl fails: in words with the next step, and with an exit code that scripts can tell apart."""

from collections.abc import Sequence

import click

WRONG = 1
USAGE = 2
NO_CONTROL_PLANE = 3
STATUS_BASE = 64
INTERRUPTED = 130
EXIT_CODES = f"""\b
Exit codes:
  0    done; nothing is wrong
  {WRONG}    something is wrong; the output says what to do
  {USAGE}    meshctl was called in a way that it does not understand
  {NO_CONTROL_PLANE}    the control plane does not answer
  {STATUS_BASE}+n a call failed with the gRPC status n (71: PERMISSION_DENIED)
  {INTERRUPTED}  interrupted
"""


class Problem(Exception):
    """Why a command ends: a sentence, details of a line each, and what the person can do about it."""

    def __init__(
        self, message: str, next_step: str = "", *, exit_code: int = WRONG, details: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.exit_code = exit_code
        self.details = tuple(details)

    def told(self) -> str:
        """The sentence with its details, in one line."""
        return f"{self.message} {'; '.join(self.details)}".strip()

    def show(self) -> None:
        """Write it to standard error."""
        lines = [f"Error: {self.message}", *(f"  {line}" for line in self.details)]
        for line in [*lines, f"Next:  {self.next_step}"] if self.next_step else lines:
            click.echo(printable(line), err=True)


def printable(text: str) -> str:
    """The text in one line, without the control characters that a peer could steer a terminal with."""
    return "".join(c if c.isprintable() else " " for c in text)
