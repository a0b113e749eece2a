"""Tries the tests of a store file, and tells which assertions failed."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.rpc import status_pb2

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import output
from pyairtable_mesh.meshctl.failures import CallError
from pyairtable_mesh.meshctl.output import Form
from pyairtable_mesh.meshctl.permission.questions import result_word
from pyairtable_mesh.meshctl.permission.store_file import Expectation, StoreFile, StoreTest

MAX_ASSERTIONS = 1_000
"""Of one request."""
_RELATIONSHIP = re.compile(r"^field relationships\[(\d+)\]")

Ask = Callable[[pb.TestSchemaRequest, type[pb.TestSchemaResponse]], Awaitable[pb.TestSchemaResponse]]


@dataclass(frozen=True, slots=True)
class Failure:
    """An assertion that failed."""

    test: str
    expectation: Expectation
    actual: str
    sentence: str

    @property
    def expected(self) -> str:
        """The answer that was expected, in words."""
        return _words(self.expectation.assertion.expected, self.expectation.missing)

    def to_data(self) -> dict[str, str]:
        """The failure for a program."""
        return {
            "place": self.expectation.place,
            "test": self.test,
            "question": self.expectation.words,
            "expected": self.expected,
            "actual": self.actual,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a file gave: how many assertions it has, and which failed."""

    file: StoreFile
    assertions: int
    failures: Sequence[Failure]

    def to_data(self) -> dict[str, Any]:
        """The outcome for a program."""
        failed = [each.to_data() for each in self.failures]
        return {"file": str(self.file.path), "assertions": self.assertions, "failures": failed}


async def run(ask: Ask, file: StoreFile, space: str) -> Outcome:
    """Try all tests of a file. Raises `CallError`, with places in the file, for what is wrong with it."""
    asked, failed = 0, list[Failure]()
    for test in file.tests or [StoreTest("", (), (), ())]:  # a model without tests is looked at, too
        for start in range(0, len(test.expectations) or 1, MAX_ASSERTIONS):
            part = test.expectations[start : start + MAX_ASSERTIONS]
            request = pb.TestSchemaRequest(
                schema=pb.SchemaSource(text=file.model),
                relationships=test.relationships,
                assertions=[each.assertion for each in part],
                space=space,
            )
            try:
                response = await ask(request, pb.TestSchemaResponse)
            except CallError as error:
                raise _placed(error, file, test) from None
            asked += len(part)
            for expectation, result in zip(part, response.results, strict=True):
                if failure := _failure(test.name, expectation, result):
                    failed.append(failure)
    return Outcome(file, asked, failed)


def _placed(error: CallError, file: StoreFile, test: StoreTest) -> CallError:
    """The error of a request with a place that a person can go to: of a relationship, or else of the model."""
    if error.code != "INVALID_ARGUMENT":
        return error
    found = [_RELATIONSHIP.match(line) for line in error.details]
    places = [test.places[int(match[1])] for match in found if match and int(match[1]) < len(test.places)]
    status = status_pb2.Status()
    status.CopyFrom(error.status)
    status.message = f"{(places or [file.model_place])[0]}: {status.message}"
    return CallError(status)


def _failure(test: str, expectation: Expectation, result: pb.AssertionResult) -> Failure | None:
    decision = result.actual.decision
    if result.passed and (not expectation.missing or sorted(expectation.missing) == sorted(decision.missing_context)):
        return None
    if result.actual.HasField("error"):
        return Failure(test, expectation, "not answered", result.actual.error.message)
    return Failure(test, expectation, _words(decision.result, decision.missing_context), result.sentence)


def _words(result: "pb.Decision.Result.ValueType", missing: Sequence[str]) -> str:
    return result_word(result) + (f" on {', '.join(sorted(missing))}" if missing else "")


def report(outcomes: Sequence[Outcome], form: Form) -> None:
    """Print what failed, and a line for each file."""
    if form != "table":
        output.print_data(form, [each.to_data() for each in outcomes])
        return
    for outcome in outcomes:
        for each in outcome.failures:
            words = f"{each.test}: {each.expectation.words} is {each.actual}, expected {each.expected}"
            output.print_line(f"{each.expectation.place}: {words}", state="fail")
            if each.sentence:
                output.print_line(f"{'':6}{each.sentence}")
    for outcome in outcomes:
        passed = outcome.assertions - len(outcome.failures)
        words = f"{outcome.file.path}: {passed} of {outcome.assertions} assertions passed"
        output.print_line(words, state="fail" if outcome.failures else "ok" if passed else "warn")
