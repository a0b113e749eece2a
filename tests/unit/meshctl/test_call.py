"""`call` against a mesh without a network: where the call goes, what goes with it, and how its end is told."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from google.rpc import error_details_pb2

from pyairtable.common.v1 import audit_pb2, common_pb2
from pyairtable.mesh.v1 import mesh_pb2
from pyairtable.permission.v1 import permission_pb2
from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.meshctl.credentials import Credentials
from tests.unit.meshctl.fakes import PLANE, FakeMesh, endpoint, failure, invoke, platform, service, token

USER_ADDRESS, PERMISSION_ADDRESS, AUDIT_ADDRESS = "127.0.0.1:50061", "127.0.0.1:50051", "127.0.0.1:50071"


@pytest.fixture
def mesh() -> FakeMesh:
    addresses = {"user": USER_ADDRESS, "permission": PERMISSION_ADDRESS, "audit": AUDIT_ADDRESS}
    mesh = platform(*(service(name, endpoint(address)) for name, address in addresses.items()))
    mesh.serve(USER_ADDRESS, "GetMe", user_pb2.User(name="users/usr1", given_name="Zoë"))
    mesh.serve(PERMISSION_ADDRESS, "CheckPermission", permission_pb2.CheckPermissionResponse())
    events = [audit_pb2.TailAuditEventsResponse(), audit_pb2.TailAuditEventsResponse()]
    mesh.serve(AUDIT_ADDRESS, "TailAuditEvents", *events)
    return mesh


@pytest.mark.parametrize(
    "words",
    [
        ["user", "GetMe"],
        ["user/GetMe"],
        ["GetMe", "{}"],
        ["pyairtable.user.v1.UserService/GetMe"],
        ["user.pyairtable", "UserService/GetMe", " {}"],
    ],
)
def test_the_call_goes_to_the_endpoint_that_the_control_plane_names(mesh: FakeMesh, words: list[str]) -> None:
    done = invoke(mesh, "call", *words)
    assert (done.exit_code, json.loads(done.stdout)["givenName"]) == (0, "Zoë")
    assert [(sent.address, sent.method) for sent in mesh.sent] == [
        (PLANE, "pyairtable.mesh.v1.StatusService.ListServices"),
        (USER_ADDRESS, "pyairtable.user.v1.UserService.GetMe"),
    ]


def test_with_an_address_the_control_plane_is_not_asked(mesh: FakeMesh) -> None:
    assert invoke(mesh, "call", "--address", USER_ADDRESS, "user", "GetMe").exit_code == 0
    assert [sent.address for sent in mesh.sent] == [USER_ADDRESS]


def test_the_control_plane_itself_can_be_called(mesh: FakeMesh) -> None:
    done = invoke(mesh, "call", "mesh", "ListClients", "--control-plane", PLANE)
    assert json.loads(done.stdout) == {"clients": [], "nextPageToken": ""}


def test_a_request_in_json(mesh: FakeMesh) -> None:
    invoke(mesh, "call", "permission", "CheckPermission", '{"resource": "base:app1", "permission": "read"}')
    expected = permission_pb2.CheckPermissionRequest(resource="base:app1", permission="read")
    assert mesh.sent[-1].requests == [expected]


def test_a_request_from_standard_input(mesh: FakeMesh) -> None:
    done = invoke(mesh, "call", "permission/CheckPermission", "-", standard_input='{"permission": "read"}')
    assert done.exit_code == 0
    assert mesh.sent[-1].requests == [permission_pb2.CheckPermissionRequest(permission="read")]


def test_fields_with_their_default_are_printed(mesh: FakeMesh) -> None:
    page = mesh_pb2.ListServicesResponse(services=[mesh_pb2.Service()])
    mesh.serve("127.0.0.1:1", "ListServices", page)
    done = invoke(mesh, "call", "mesh", "ListServices", "--address", "127.0.0.1:1")
    assert json.loads(done.stdout)["services"][0]["port"] == 0


def test_a_stream_is_printed_as_lines_and_has_no_deadline_of_ours(mesh: FakeMesh) -> None:
    done = invoke(mesh, "call", "audit", "TailAuditEvents")
    assert [type(json.loads(line)) for line in done.stdout.splitlines()] == [dict, dict]
    assert mesh.sent[-1].seconds is None
    assert len(list(yaml.safe_load_all(invoke(mesh, "call", "audit", "TailAuditEvents", "-o", "yaml").stdout))) == 2


@pytest.mark.parametrize(("option", "seconds"), [([], 10.0), (["--timeout", "0.5"], 0.5)])
def test_a_unary_call_has_a_deadline(mesh: FakeMesh, option: list[str], seconds: float) -> None:
    invoke(mesh, "call", *option, "user", "GetMe")
    assert mesh.sent[-1].seconds == seconds


def test_the_token_goes_to_the_service_only(mesh: FakeMesh) -> None:
    invoke(mesh, "call", "user", "GetMe", variables={"PYAIRTABLE_TOKEN": token()})
    asked, called = mesh.sent
    assert (asked.metadata, called.metadata) == ({}, {"authorization": f"Bearer {token()}"})


def test_calling_as_another_user(mesh: FakeMesh, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    for user in ("bob", "alice"):
        Credentials(home).keep(user, token(user))
    for arguments, user in ((["--as", "bob"], "bob"), ([], "alice")):
        invoke(mesh, "call", *arguments, "user", "GetMe", variables=home)
        assert mesh.sent[-1].metadata == {"authorization": f"Bearer {token(user)}"}


def test_headers(mesh: FakeMesh) -> None:
    headers = ("-H", "Authorization: Bearer x", "-H", "x-correlation-id:a:b", "-H", "trace-bin: AQI=")
    invoke(mesh, "call", *headers, "user", "GetMe", variables={"PYAIRTABLE_TOKEN": token()})
    assert mesh.sent[-1].metadata == {
        "authorization": "Bearer x",
        "x-correlation-id": "a:b",
        "trace-bin": b"\x01\x02",
    }


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["user", "GetMee"], "There is no method GetMee.", 2),
        (["user", "GetMe", "now"], "now is no request.", 2),
        (["user", "GetMe", "{"], "The request is no JSON.", 2),
        (["-H", "no colon", "user", "GetMe"], "no colon is no header that can be sent.", 2),
        (["-H", "x-bin: %", "user", "GetMe"], "x-bin is no header that can be sent.", 2),
        (["invoices", "GetInvoice"], "The mesh has no service invoices; it has: audit, permission, user.", 1),
        (
            ["GetHealthReport"],
            "It is not known which service of the mesh serves pyairtable.common.v1.DiagnosticsService.",
            2,
        ),
        (["--as", "bob", "user", "GetMe"], "bob has not logged in here.", 1),
        (["--control-plane", "127.0.0.1:2", "user", "GetMe"], "No control plane answers at 127.0.0.1:2.", 3),
    ],
)
def test_what_cannot_be_done_is_told(mesh: FakeMesh, arguments: list[str], words: str, code: int) -> None:
    done = invoke(mesh, "call", *arguments)
    assert (done.exit_code, done.stderr.splitlines()[0], done.stdout) == (code, f"Error: {words}", "")
    assert "Next:  " in done.stderr


def test_an_expired_token_is_not_sent(mesh: FakeMesh) -> None:
    old = token(expiry=datetime(2026, 2, 1, tzinfo=UTC))
    done = invoke(mesh, "call", "user", "GetMe", variables={"PYAIRTABLE_TOKEN": old})
    assert (done.exit_code, mesh.sent) == (1, [])
    assert "The token has expired." in done.stderr


@pytest.mark.parametrize("address", ["10.1.2.3:50051", "user.example:50051", "[2001:db8::1]:50051"])
def test_a_token_does_not_leave_this_machine_unencrypted(mesh: FakeMesh, address: str) -> None:
    variables = {"PYAIRTABLE_TOKEN": token()}
    done = invoke(mesh, "call", "--address", address, "user", "GetMe", variables=variables)
    assert (done.exit_code, mesh.sent) == (1, [])
    assert f"A token does not go to {address} unencrypted." in done.stderr


def test_a_token_goes_to_every_form_of_the_loopback(mesh: FakeMesh) -> None:
    for address in ("localhost:1", "127.0.0.9:1", "[::1]:1"):
        mesh.serve(address, "GetMe", user_pb2.User())
        variables = {"PYAIRTABLE_TOKEN": token()}
        assert invoke(mesh, "call", "--address", address, "user", "GetMe", variables=variables).exit_code == 0


def test_a_failure_is_told_with_its_details(mesh: FakeMesh) -> None:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    info = error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="pyairtable.io", metadata={"limit": "9"})
    mesh.fail(USER_ADDRESS, "GetMe", failure(8, "too many\x1b[2J calls", info, retry))
    done = invoke(mesh, "call", "user", "GetMe")
    assert done.exit_code == 72
    assert done.stderr.splitlines() == [
        "Error: RESOURCE_EXHAUSTED: too many [2J calls",
        "  reason: RATE_LIMITED (pyairtable.io)",
        "  limit: 9",
        "  retry: after 1.5 s",
    ]


def test_a_failure_for_programs(mesh: FakeMesh) -> None:
    mesh.fail(USER_ADDRESS, "GetMe", failure(5, "no such user"))
    done = invoke(mesh, "call", "user", "GetMe", "-o", "json")
    told = json.loads(done.stderr)
    assert (done.exit_code, told) == (69, {"code": "NOT_FOUND", "message": "no such user", "details": []})


def test_a_detail_of_an_unknown_type_is_kept(mesh: FakeMesh) -> None:
    error = failure(5, "no such user")
    error.status.details.add(type_url="type.googleapis.com/acme.Hint", value=b"\0\1")
    mesh.fail(USER_ADDRESS, "GetMe", error)
    told = json.loads(invoke(mesh, "call", "user", "GetMe", "-o", "json").stderr)
    assert told["details"] == [{"@type": "type.googleapis.com/acme.Hint", "value": "AAE="}]


def test_a_response_with_a_message_of_an_unknown_type_is_told(mesh: FakeMesh) -> None:
    status = permission_pb2.BatchCheckPermissionsResponse()
    status.results.add().error.details.add(type_url="type.googleapis.com/acme.Hint", value=b"\0")
    mesh.serve(PERMISSION_ADDRESS, "BatchCheckPermissions", status)
    done = invoke(mesh, "call", "permission", "BatchCheckPermissions")
    assert done.exit_code == 1
    assert "holds a message of a type that is not installed here" in done.stderr


def test_what_every_service_has(mesh: FakeMesh) -> None:
    mesh.serve(AUDIT_ADDRESS, "GetServiceInfo", common_pb2.ServiceInfo(service="audit"))
    assert json.loads(invoke(mesh, "call", "audit", "GetServiceInfo").stdout)["service"] == "audit"
