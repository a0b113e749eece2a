from pathlib import Path
from typing import Any

import pytest

from pyairtable.permission.v1 import permission_pb2
from pyairtable.user.v1 import user_pb2
from pyairtable_mesh.meshctl import payload
from pyairtable_mesh.meshctl.problems import USAGE, Problem

CHECK: Any = permission_pb2.DESCRIPTOR.services_by_name["PermissionService"].methods_by_name["CheckPermission"]
GET_ME: Any = user_pb2.DESCRIPTOR.services_by_name["UserService"].methods_by_name["GetMe"]


def test_a_request_may_be_left_out() -> None:
    assert payload.requests(GET_ME, " \n") == [user_pb2.GetMeRequest()]


def test_fields_are_known_by_both_their_names() -> None:
    expected = permission_pb2.CheckPermissionRequest(contextual_relationships=[permission_pb2.Relationship()])
    for name in ("contextual_relationships", "contextualRelationships"):
        assert payload.requests(CHECK, f'{{"{name}": [{{}}]}}') == [expected]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("{", "The request is no JSON."),
        ("[" * 100_000, "The request is no JSON."),
        ("[]", "The request does not fit pyairtable.permission.v1.CheckPermissionRequest."),
        ('{"resourc": ""}', "The request does not fit pyairtable.permission.v1.CheckPermissionRequest."),
        ('{"resource": 1}', "The request does not fit pyairtable.permission.v1.CheckPermissionRequest."),
        ("{} {}", "CheckPermission takes one request, not 2."),
    ],
)
def test_what_is_no_request_is_told(body: str, words: str) -> None:
    with pytest.raises(Problem) as told:
        payload.requests(CHECK, body)
    assert (told.value.message, told.value.exit_code) == (words, USAGE)


def test_a_request_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"permission": "read"}')
    assert payload.read(f"@{tmp_path}/request.json") == '{"permission": "read"}'


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "request.json").write_bytes(content)
    with pytest.raises(Problem, match=r"request\.json cannot be read as UTF-8 text"):
        payload.read(f"@{tmp_path}/request.json")
