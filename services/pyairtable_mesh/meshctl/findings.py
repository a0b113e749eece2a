"""What `check` and `doctor` find: one line each, with the next step where something is to be done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pyairtable_mesh.meshctl import output

State = Literal["ok", "warn", "fail"]


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
            output.print_line(f"{finding.subject:<{width}}  {finding.text}", state=finding.state)
            if finding.next_step:
                output.print_line(f"{'':6}{'':{width}}  next: {finding.next_step}")
        warnings = sum(finding.state == "warn" for finding in findings)
        output.print_line(f"{_counted(failures, 'failure')}, {_counted(warnings, 'warning')}.")
    else:
        output.print_data(form, [finding.to_data() for finding in findings])
    return not failures


def _counted(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"
