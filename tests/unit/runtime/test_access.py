"""Rows of the access table: what they ask, of whom, and what they make of odd fields."""

import pytest

from pyairtable.permission.v1 import permission_pb2 as pb
from pyairtable_mesh.runtime import access, builder
from pyairtable_mesh.runtime.context import ANONYMOUS, Actor, RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument

ID = "0" * 26
ALICE = RequestContext("/m", actor=Actor("user", f"user:usr{ID}"), tenant_id=f"ten{ID}")
AUDIT = RequestContext("/m", actor=Actor("workload", "spiffe://mesh/ns/default/sa/audit"))
STRANGER = RequestContext("/m", actor=Actor("workload", "spiffe://mesh/ns/elsewhere/sa/audit"))
NOBODY = RequestContext("/m", actor=ANONYMOUS)
BASE = f"base:app{ID}"

QUESTIONS = [
    (access.public(), (), NOBODY, []),
    (access.authenticated(), (), ALICE, []),
    (access.authenticated(), (), AUDIT, None),
    (access.filtered("base"), (), ALICE, []),
    (access.tenant("read"), (), ALICE, [(f"tenant:ten{ID}", "read")]),
    (access.tenant("read"), (), AUDIT, None),
    (access.on("resource", "update"), (BASE,), ALICE, [(BASE, "update")]),
    (access.on("resource", "update"), (BASE,), AUDIT, None),
    (access.each("names", "read"), (BASE, "base:app2"), ALICE, [(BASE, "read"), ("base:app2", "read")]),
    (access.own("name"), (f"user:usr{ID}",), ALICE, []),
    (access.own("name"), (), ALICE, []),
    (access.own("name"), ("user:other",), ALICE, None),
    (access.own("name"), (), AUDIT, None),
    (access.workload("audit"), (), AUDIT, []),
    (access.workload("user"), (), AUDIT, None),
    (access.workload("audit"), (), STRANGER, None),
    (access.workload(access.ANY), (), STRANGER, None),
    (access.workload("elsewhere/audit"), (), STRANGER, []),
    (access.workload("elsewhere/audit"), (), AUDIT, None),
    (access.workload(access.ANY), (), AUDIT, []),
    (access.workload(access.ANY), (), ALICE, None),
    (access.workload(access.ANY), (), NOBODY, None),
]


@pytest.mark.parametrize(("row", "resources", "caller", "expected"), QUESTIONS)
def test_what_a_row_asks(
    row: access.Row, resources: tuple[str, ...], caller: RequestContext, expected: list[access.Question] | None
) -> None:
    assert access.questions(row, resources, caller, "default") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"users/usr{ID}", f"user:usr{ID}"),
        (f"users/usr{ID}/settings", f"user:usr{ID}"),
        (f"serviceAccounts/svc{ID}", f"service_account:svc{ID}"),
        (BASE, BASE),
    ],
)
def test_names_and_references_give_the_permission_object(value: str, expected: str) -> None:
    assert access.reference("name", value) == expected


@pytest.mark.parametrize(
    "value", ["", "users/", "users/1", f"planets/usr{ID}", f"users/usr{ID}/../x", "base:", ":app", "base:a b", "base:*"]
)
def test_malformed_names_are_the_callers_mistake(value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        access.reference("name", value)
    assert caught.value.violations[0].field == "name"


def test_paths_fan_out_over_repeated_fields() -> None:
    request = pb.WriteRelationshipsRequest(
        updates=[pb.RelationshipUpdate(relationship=pb.Relationship(resource=f"base:{name}")) for name in "ab"]
    )
    assert access.reader("updates[].relationship.resource")(request) == [
        ("updates[0].relationship.resource", "base:a"),
        ("updates[1].relationship.resource", "base:b"),
    ]


def test_alternatives_keep_their_order() -> None:
    row = access.own("name") | access.tenant("manage_users") | access.workload("user")
    assert [way.kind for way in row.ways()] == ["own", "tenant", "workload"]


def test_events_of_every_tenant_are_for_the_named_subscribers() -> None:
    rows = builder.runtime_access(["audit"])["pyairtable.common.v1.EventService"]
    assert access.questions(rows["Subscribe"], (), AUDIT, "default") == []
    nobody = builder.runtime_access([])["pyairtable.common.v1.EventService"]
    assert access.questions(nobody["Subscribe"], (), AUDIT, "default") is None
