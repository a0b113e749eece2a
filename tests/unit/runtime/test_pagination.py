import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyairtable.common.v1 import audit_pb2
from pyairtable_mesh.runtime import pagination
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.errors import InvalidArgument
from pyairtable_mesh.runtime.pagination import SealBrokenError, Sealer
from tests.databases import caller

SEALER = Sealer(bytes(32))
CALLER = caller("ten1")


def _request(**fields: object) -> audit_pb2.ListAuditEventsRequest:
    return audit_pb2.ListAuditEventsRequest(**fields)  # type: ignore[arg-type]


def test_a_page_goes_on_behind_the_last_row() -> None:
    first = pagination.page_of(SEALER, CALLER, _request(page_size=2, filter="f"))
    assert (first.size, first.after) == (2, ())
    token = first.next_token(("usr1", 7))
    second = pagination.page_of(SEALER, CALLER, _request(page_size=5, filter="f", page_token=token))
    assert (second.size, second.after) == (5, ("usr1", 7))
    assert second.next_token(None) == ""


@pytest.mark.parametrize(("asked", "given_size"), [(0, 50), (1, 1), (1000, 1000), (5000, 1000)])
def test_sizes_are_those_of_aip_158(asked: int, given_size: int) -> None:
    assert pagination.page_of(SEALER, CALLER, _request(page_size=asked)).size == given_size


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        pagination.page_of(SEALER, CALLER, _request(page_size=-1))


@pytest.mark.parametrize(
    ("sealer", "who", "filter_"),
    [
        (SEALER, caller("ten2"), "f"),
        (SEALER, caller("ten1", user="user:usr2"), "f"),
        (SEALER, RequestContext("/other", actor=CALLER.actor, tenant_id="ten1"), "f"),
        (SEALER, CALLER, "g"),
        (Sealer(b"k" * 32), CALLER, "f"),
    ],
    ids=["tenant", "user", "method", "arguments", "key"],
)
def test_a_token_is_good_only_with_its_own(sealer: Sealer, who: RequestContext, filter_: str) -> None:
    token = pagination.page_of(SEALER, CALLER, _request(filter="f")).next_token(("x",))
    with pytest.raises(InvalidArgument) as refused:
        pagination.page_of(sealer, who, _request(filter=filter_, page_token=token))
    assert refused.value.reason == "PAGE_TOKEN_INVALID"


@given(st.binary(max_size=64), st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_no_bit_of_a_token_can_be_changed(payload: bytes, place: int, change: int) -> None:
    token = SEALER.seal("kind", payload, "tenant")
    assert SEALER.open("kind", token, "tenant") == payload
    raw = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    raw[place % len(raw)] ^= change
    with pytest.raises(SealBrokenError):
        SEALER.open("kind", base64.urlsafe_b64encode(raw).rstrip(b"=").decode(), "tenant")


@given(st.text(max_size=80))
def test_what_was_never_sealed_is_refused(token: str) -> None:
    with pytest.raises(SealBrokenError):
        SEALER.open("kind", token)


def test_parts_of_a_binding_do_not_run_into_each_other() -> None:
    with pytest.raises(SealBrokenError):
        SEALER.open("kind", SEALER.seal("kind", b"", "ab", "c"), "a", "bc")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        Sealer(b"short")
