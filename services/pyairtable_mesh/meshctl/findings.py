"""What `check` and `doctor` find: one line each, with the next step where something is to be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyairtable_mesh.meshctl import output

State = Literal["ok", "warn", "fail"]

STEP_WIDTH = 30
"""Of subjects that come one after the other, so that the widest is not known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How something is: `ok`, `warn` (works, or is not needed) or `fail`."""

    state: State
    subject: str
    text: str
    next_step: str = ""

    def to_data(self) -> dict[str, str]:
        """The finding for a program."""
        return {"state": self.state, "subject": self.subject, "text": self.text, "nextStep": self.next_step}


def report(findings: Sequence[Finding], form: output.Form) -> bool:
    """Print the findings; whether none of them is a failure."""
    failures = sum(finding.state == "fail" for finding in findings)
    if form == "table":
        width = max((len(finding.subject) for finding in findings), default=0)
        for finding in findings:
            _print(finding, width)
        warnings = sum(finding.state == "warn" for finding in findings)
        output.print_line(f"{_counted(failures, 'failure')}, {_counted(warnings, 'warning')}.")
    else:
        output.print_data(form, [finding.to_data() for finding in findings])
    return not failures


@dataclass(slots=True)
class Told:
    """Prints findings as they come, and knows whether one of them was a failure."""

    form: output.Form
    failed: bool = False

    def __call__(self, finding: Finding) -> None:
        """Print it: a line for a person, an object in a line of its own for a program."""
        self.failed |= finding.state == "fail"
        if self.form == "table":
            _print(finding, STEP_WIDTH)
        else:
            output.print_data(self.form, finding.to_data(), lines=True)


def _print(finding: Finding, width: int) -> None:
    output.print_line(f"{finding.subject:<{width}}  {finding.text}", state=finding.state)
    if finding.next_step:
        output.print_line(f"{'':6}{'':{width}}  next: {finding.next_step}")


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
