"""What the commands print, in each form; an ill platform shows more than a healthy one."""

import io
import re
import sys
from collections.abc import Callable

import pytest
from google.rpc import error_details_pb2

from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl import output
from tests.unit.meshctl.fakes import (
    FakeMesh,
    client,
    dependency,
    endpoint,
    failure,
    health,
    invoke,
    platform,
    service,
    token,
)

COMMANDS = ("status", "services", "endpoints", "clients", "doctor")


def ill_platform() -> FakeMesh:
    user = service(
        "user",
        endpoint("127.0.0.1:50061"),
        endpoint("[::1]:50062", mesh_pb2.ENDPOINT_STATE_DRAINING),
        problem="retry.attempts is 9; at most 5 are served",
    )
    user.acknowledgement.acknowledged_clients = 1
    user.acknowledgement.refused_clients = 1
    clients = [client("pyairtable/audit/1"), client("pyairtable/user/2", refusal="lb_policy: \x1b[31munknown")]
    mesh = platform(service("audit"), service("permission", endpoint("127.0.0.1:50051")), user, clients=clients)
    sick = dependency("permission", message="silent for 2 s")
    mesh.serve("127.0.0.1:50061", "GetHealthReport", health(dependency("database"), sick))
    return mesh


@pytest.mark.parametrize(("form", "suffix"), [("table", "txt"), ("json", "json"), ("yaml", "yaml")])
@pytest.mark.parametrize("command", COMMANDS)
def test_output(command: str, form: str, suffix: str, golden: Callable[[str, str], None]) -> None:
    done = invoke(ill_platform(), command, "-o", form, variables={"PYAIRTABLE_TOKEN": token()})
    assert (done.exit_code, done.stderr) == (int(command == "doctor"), "")
    golden(f"{command}.{suffix}", done.stdout)


@pytest.mark.parametrize("form", ["words", "json", "yaml"])
def test_failure(form: str, golden: Callable[[str, str], None]) -> None:
    mesh = ill_platform()
    violation = error_details_pb2.BadRequest.FieldViolation(
        field="user.email", description="must be an e-mail address", reason="string.email"
    )
    state = error_details_pb2.PreconditionFailure.Violation(
        type="STATUS", subject="users/usr1", description="is active"
    )
    quota = error_details_pb2.QuotaFailure.Violation(subject="users", description="at most 9")
    info = error_details_pb2.ErrorInfo(reason="VALIDATION_FAILED", domain="pyairtable.io", metadata={"rules": "1"})
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    details = [
        info,
        error_details_pb2.BadRequest(field_violations=[violation]),
        error_details_pb2.PreconditionFailure(violations=[state]),
        error_details_pb2.QuotaFailure(violations=[quota]),
        retry,
        error_details_pb2.ResourceInfo(resource_type="user", resource_name="users/usr1"),
        error_details_pb2.Help(links=[{"description": "The rules:", "url": "https://aip.dev/193"}]),
    ]
    mesh.fail("127.0.0.1:50061", "GetMe", failure(3, "the request breaks 1 rule", *details))
    done = invoke(mesh, "call", "user", "GetMe", *([] if form == "words" else ["-o", form]))
    assert (done.exit_code, done.stdout) == (67, "")
    suffix = "txt" if form == "words" else form
    golden(f"failure.{suffix}", done.stderr)


def test_a_terminal_gets_colour_unless_no_color_forbids_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = {}
    for forbidden in ("", "1"):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("NO_COLOR", forbidden)
        monkeypatch.setenv("TERM", "xterm")
        output.print_table(output.Table(("SERVICE", "STATE"), [("[user]", "ready")]))
        output.print_line("permission", state="fail")
        shown[forbidden] = terminal.getvalue()
    assert shown[""].count("\x1b[32m") == shown[""].count("\x1b[31m") == 1
    assert not re.search(r"\x1b\[(\d+;)*3\d", shown["1"])
    assert "[user]" in shown["1"]
