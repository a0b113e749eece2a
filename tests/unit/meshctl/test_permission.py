"""`permission check`, `explain`, `who` and `what` against a permission service that answers from tables."""

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
import yaml
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.permission.lists import responses
from pyairtable_mesh.meshctl.permission.server import Client
from tests.unit.meshctl.fakes import (
    PLANE,
    UNAUTHENTICATED,
    FakeMesh,
    endpoint,
    failure,
    invoke,
    platform,
    service,
    token,
)

ADDRESS = "127.0.0.1:50051"
ALLOWED, CONDITIONAL = pb.Decision.RESULT_ALLOWED, pb.Decision.RESULT_CONDITIONAL


@pytest.fixture
def mesh() -> FakeMesh:
    mesh = platform(service("permission", endpoint(ADDRESS)))
    decide(mesh, ALLOWED)
    return mesh


def decide(mesh: FakeMesh, result: "pb.Decision.Result.ValueType", *missing: str) -> None:
    decision = pb.Decision(result=result, missing_context=missing, consistency_token="tok")
    mesh.serve(ADDRESS, "CheckPermission", pb.CheckPermissionResponse(decision=decision))


def subject(
    name: str, *, missing: Sequence[str] = (), excluded: Sequence[str] = (), cursor: str = ""
) -> pb.LookupSubjectsResponse:
    found = pb.FoundSubject(subject=name, result=ALLOWED, missing_context=missing, excluded_subjects=excluded)
    return pb.LookupSubjectsResponse(subjects=[found], cursor=cursor)


def end(count: int, *, complete: bool = True, cursor: str = "") -> pb.LookupSubjectsResponse:
    summary = pb.LookupSummary(count=count, complete=complete, consistency_token="tok")
    return pb.LookupSubjectsResponse(summary=summary, cursor=cursor)


def test_the_question_goes_to_the_permission_service_of_the_mesh_with_the_token(mesh: FakeMesh) -> None:
    done = invoke(mesh, "permission", "check", "base:a", "read", variables={"PYAIRTABLE_TOKEN": token()})
    assert (done.exit_code, done.stdout) == (0, "allowed  read on base:a for you\ntoken: tok\n")
    asked, checked = mesh.sent
    assert (asked.address, checked.address, checked.seconds) == (PLANE, ADDRESS, 10.0)
    assert checked.metadata == {"authorization": f"Bearer {token()}"}
    assert checked.requests == [pb.CheckPermissionRequest(resource="base:a", permission="read")]


def test_a_question_with_everything(mesh: FakeMesh) -> None:
    options = ["--subject", "user:b", "--at-least", "t0", "--space", "modelSpaces/s", "--timeout", "3"]
    contexts = ["--context", "region=eu", "--context", 'level="7"', "--context", '{"n": 3, "tags": ["a"]}']
    invoke(mesh, "permission", "check", "--address", ADDRESS, "doc:1", "view", *options, *contexts)
    [sent] = mesh.sent
    expected = pb.CheckPermissionRequest(
        resource="doc:1",
        permission="view",
        subject="user:b",
        space="modelSpaces/s",
        consistency={"at_least_as_fresh": "t0"},
    )
    expected.context.update({"region": "eu", "level": "7", "n": 3, "tags": ["a"]})
    assert (sent.requests, sent.seconds) == ([expected], 3.0)


@pytest.mark.parametrize(
    ("result", "missing", "code", "words"),
    [
        (pb.Decision.RESULT_DENIED, [], 1, "denied  read on base:a for you\n"),
        (CONDITIONAL, ["hour", "region"], 1, "conditional  read on base:a for you\nIt depends on hour, region. Next:"),
    ],
)
def test_what_is_not_allowed_ends_with_1(
    mesh: FakeMesh, result: "pb.Decision.Result.ValueType", missing: Sequence[str], code: int, words: str
) -> None:
    decide(mesh, result, *missing)
    done = invoke(mesh, "permission", "check", "base:a", "read")
    assert (done.exit_code, done.stderr) == (code, "")
    assert done.stdout.startswith(words)
    again = invoke(mesh, "permission", "check", "base:a", "read", "-o", "json")
    assert (again.exit_code, json.loads(again.stdout)["decision"]["missingContext"]) == (code, missing)


@pytest.mark.parametrize("text", ["region", "=eu", "{", "[1]", '{"a": NaN}'])
def test_what_is_no_context_is_told(mesh: FakeMesh, text: str) -> None:
    done = invoke(mesh, "permission", "check", "base:a", "read", "--context", text)
    assert (done.exit_code, mesh.sent, done.stderr.splitlines()[0]) == (2, [], f"Error: {text} is no context.")


@pytest.mark.parametrize("words", [["check", "a:1", "read"], ["explain", "a:1", "read"], ["who", "a:1", "read"]])
def test_failures_are_told_as_those_of_a_call(mesh: FakeMesh, words: list[str]) -> None:
    for method in ("CheckPermission", "ExplainPermission", "LookupSubjects"):
        mesh.fail(ADDRESS, method, UNAUTHENTICATED)
    done = invoke(mesh, "permission", *words)
    assert (done.exit_code, done.stdout) == (80, "")
    assert done.stderr.splitlines()[0] == "Error: UNAUTHENTICATED: the token is not ours"
    for_programs = invoke(mesh, "permission", *words, "-o", "json")
    assert (for_programs.exit_code, json.loads(for_programs.stderr)["code"]) == (80, "UNAUTHENTICATED")


def test_the_token_is_handled_as_for_a_call(mesh: FakeMesh) -> None:
    old, words = token(expiry=datetime(2026, 2, 1, tzinfo=UTC)), ("permission", "what", "read", "table")
    done = invoke(mesh, *words, variables={"PYAIRTABLE_TOKEN": old})
    assert (done.exit_code, mesh.sent, "The token has expired." in done.stderr) == (1, [], True)
    done = invoke(mesh, *words, "--address", "10.1.2.3:50051", variables={"PYAIRTABLE_TOKEN": token()})
    assert (done.exit_code, mesh.sent, "unencrypted" in done.stderr) == (1, [], True)
    assert "bob has not logged in here." in invoke(mesh, *words, "--as", "bob").stderr


def test_a_mesh_without_a_permission_service_is_told() -> None:
    done = invoke(platform(service("user")), "permission", "check", "base:a", "read")
    assert (done.exit_code, done.stderr.splitlines()[0]) == (
        1,
        "Error: The mesh has no service permission; it has: user.",
    )


def test_an_explanation_has_the_sentence_first(mesh: FakeMesh) -> None:
    grant = pb.MissingGrant(resource="base:a", role="roles/creator", permission="base.delete")
    failed = pb.FailedCondition(condition="in_region", carrier="base:a#viewer@user:b", missing_context=["region"])
    answer = pb.ExplainPermissionResponse(sentence="b may not.", missing_grants=[grant], failed_conditions=[failed])
    mesh.serve(ADDRESS, "ExplainPermission", answer)
    done = invoke(mesh, "permission", "explain", "base:a", "delete", "--subject", "user:b")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "b may not.",
        "",
        "MISSING PERMISSION  AT      SMALLEST ROLE",
        "base.delete         base:a  roles/creator",
        "",
        "FAILED CONDITION  OF                    MISSING CONTEXT",
        "in_region         base:a#viewer@user:b  region",
    ]
    assert mesh.sent[-1].requests == [
        pb.ExplainPermissionRequest(resource="base:a", permission="delete", subject="user:b")
    ]


def test_who(mesh: FakeMesh) -> None:
    wildcard = subject("user:*", excluded=["user:b", "user:c"])
    mesh.serve(ADDRESS, "LookupSubjects", wildcard, subject("user:d", missing=["region"]), end(2))
    done = invoke(mesh, "permission", "who", "base:a", "read")
    assert done.stdout.splitlines() == ["user:*  but not user:b, user:c", "user:d  depends on region", "2 found."]
    expected = pb.LookupSubjectsRequest(resource="base:a", permission="read", subject_type="user")
    assert (mesh.sent[-1].requests, mesh.sent[-1].seconds) == ([expected], None)


def test_who_among_groups_for_programs(mesh: FakeMesh) -> None:
    mesh.serve(ADDRESS, "LookupSubjects", subject("group:g#member"), end(1))
    words = ("permission", "who", "base:a", "read", "--type", "group#member")
    found, summary = map(json.loads, invoke(mesh, *words, "-o", "json").stdout.splitlines())
    assert (found["subjects"][0]["subject"], summary["summary"]["complete"]) == ("group:g#member", True)
    assert len(list(yaml.safe_load_all(invoke(mesh, *words, "-o", "yaml").stdout))) == 2
    [request] = mesh.sent[-1].requests
    assert isinstance(request, pb.LookupSubjectsRequest)
    assert (request.subject_type, request.subject_relation) == ("group", "member")


def test_what(mesh: FakeMesh) -> None:
    found = pb.FoundResource(resource="table:t", result=CONDITIONAL, missing_context=["region"])
    summary = pb.LookupSummary(count=1, complete=True)
    mesh.serve(ADDRESS, "LookupResources", pb.LookupResourcesResponse(resources=[found], summary=summary))
    done = invoke(mesh, "permission", "what", "read", "table", "--subject", "user:b")
    assert (done.exit_code, done.stdout) == (0, "table:t  depends on region\n1 found.\n")
    expected = pb.LookupResourcesRequest(resource_type="table", permission="read", subject="user:b")
    assert mesh.sent[-1].requests == [expected]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [([], 1, "1 found; the list is not complete."), (["--limit", "1"], 0, "1 found; there may be more.")],
)
def test_a_list_that_is_not_complete_is_told(mesh: FakeMesh, options: list[str], code: int, words: str) -> None:
    mesh.serve(ADDRESS, "LookupSubjects", subject("user:a"), end(1, complete=False))
    done = invoke(mesh, "permission", "who", "base:a", "read", *options)
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (code, words)


def test_a_list_without_an_end_is_told(mesh: FakeMesh) -> None:
    mesh.serve(ADDRESS, "LookupSubjects", subject("user:a"))
    done = invoke(mesh, "permission", "who", "base:a", "read")
    assert (done.exit_code, done.stdout) == (1, "user:a\n")
    assert "The server ended the list without saying whether it is complete." in done.stderr


class Parts:
    """A server that gives a list in parts of one or none."""

    def __init__(self) -> None:
        self.asked: list[pb.LookupSubjectsRequest] = []

    async def call(
        self,
        method: MethodDescriptor,
        requests: Sequence[Message],
        *,
        metadata: rpc.Metadata = (),
        seconds: float | None = None,
    ) -> AsyncIterator[Message]:
        [request] = requests
        assert isinstance(request, pb.LookupSubjectsRequest)
        self.asked.append(request)
        match request.cursor:
            case "":
                yield subject("user:a", cursor="1")
                yield end(1, complete=False, cursor="1")
            case "1":  # looked at as many candidates as a part may, and found none
                yield end(1, complete=False, cursor="2")
            case "2":
                last = subject("user:b", cursor="3")
                last.MergeFrom(end(2, complete=request.limit == 0))
                yield last


@pytest.mark.parametrize(("limit", "limits"), [(0, [0, 0, 0]), (2, [2, 1, 1])])
async def test_a_list_is_followed_over_all_its_parts(limit: int, limits: list[int]) -> None:
    server = Parts()
    request = pb.LookupSubjectsRequest(resource="base:a", limit=limit)
    messages = [each async for each in responses(Client(server, (), None), request)]
    assert [found.subject for each in messages for found in each.subjects] == ["user:a", "user:b"]
    *found, last = messages
    assert not any(each.HasField("summary") for each in found)
    assert (last.summary.count, last.summary.complete) == (2, limit == 0)
    assert [each.cursor for each in server.asked] == ["", "1", "2"]
    assert [each.limit for each in server.asked] == limits


def test_a_call_that_is_not_in_this_release_is_told(mesh: FakeMesh) -> None:
    mesh.fail(ADDRESS, "LookupResources", failure(12, "not yet in this release"))
    done = invoke(mesh, "permission", "what", "read", "table")
    assert (done.exit_code, done.stderr) == (76, "Error: UNIMPLEMENTED: not yet in this release\n")
