import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable_mesh.audit import domain
from pyairtable_mesh.audit.domain import GENESIS, Answer, Decision, Head
from tests.unit.audit.entries import draft

AUDIT_ID = "aud" + "1" * 26
SALT = bytes(range(32))


def test_what_is_hashed_never_changes() -> None:
    link = domain.append(Head(), draft(1), AUDIT_ID, SALT)
    stored = domain.content(AUDIT_ID, 1, link.entry, link.personal_digest)
    assert stored.decode() == (
        '{"action":"pyairtable.permission.v1.PermissionService/GrantRole",'
        '"audit_id":"aud11111111111111111111111111","correlation_id":"","decision":null,'
        '"details":{"role":"roles/owner"},"event_id":"evt00000000000000000000000001",'
        '"event_time":"2026-11-23T12:30:00.000000+00:00","outcome":"SUCCEEDED","personal_data_digest":"",'
        '"resource":"base:app11111111111111111111111111","sequence":1,'
        '"subject":"user:usr11111111111111111111111111","tenant_id":"ten11111111111111111111111111",'
        '"trace_id":"","workload":""}'
    )
    assert link.hash == hashlib.sha256(GENESIS + stored).digest()


def test_each_link_hangs_on_the_one_before() -> None:
    first = domain.append(Head(), draft(1), AUDIT_ID, SALT)
    second = domain.append(Head(first.sequence, first.hash), draft(2), AUDIT_ID, SALT)
    assert (first.sequence, second.sequence) == (1, 2)
    assert second.previous_hash == first.hash


def test_personal_data_stands_beside_the_chain_under_a_salted_hash() -> None:
    link = domain.append(Head(), draft(1, email="ada@example.com"), AUDIT_ID, SALT)
    assert b"ada" not in domain.content(AUDIT_ID, 1, link.entry, link.personal_digest)
    assert link.personal is not None
    assert link.personal.opened().email == "ada@example.com"
    assert link.personal_digest == hashlib.sha256(SALT + link.personal.data).digest()
    other_salt = domain.append(Head(), draft(1, email="ada@example.com"), AUDIT_ID, bytes(32))
    assert other_salt.personal_digest != link.personal_digest


texts = st.text(max_size=20)
decisions = (
    st.builds(Decision, texts, texts, texts, answer=st.sampled_from(Answer), grant=texts, revision=texts) | st.none()
)


@given(texts, st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), texts, max_size=4), decisions)
def test_content_can_be_read_again(resource: str, details: dict[str, str], decision: Decision | None) -> None:
    entry = draft(1, resource=resource, details=details, decision=decision).entry
    stored = domain.content(AUDIT_ID, 7, entry, b"digest")
    assert domain.from_content(stored) == (AUDIT_ID, 7, entry, b"digest")


@pytest.mark.parametrize("stored", [b"", b"[]", b"{}", b"\xff", b'{"audit_id":1,"sequence":1}', b"null"])
def test_bytes_that_are_no_content_are_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        domain.from_content(stored)
