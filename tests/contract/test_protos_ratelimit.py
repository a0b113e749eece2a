"""The gateway's rate-limit messages against Envoy's: the same bytes must be right for both."""

from collections.abc import Iterator

import pytest
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor

from pyairtable.gateway.v1 import rate_limits_pb2

LIMIT = rls_pb2.RateLimitResponse.RateLimit


def values(enum: EnumDescriptor) -> dict[int, str]:
    return {value.number: value.name for value in enum.values if value.number}


def differences(ours: Descriptor, theirs: Descriptor) -> Iterator[str]:
    """The fields of ours that read or write other bytes than Envoy's. What only Envoy's has is unknown to ours."""
    for field in ours.fields:
        twin = theirs.fields_by_number.get(field.number)
        if twin is None or (field.name, field.type, field.is_repeated) != (twin.name, twin.type, twin.is_repeated):
            yield f"{ours.full_name}.{field.name}"
        elif field.message_type and twin.message_type and field.message_type is not twin.message_type:
            yield from differences(field.message_type, twin.message_type)
        elif field.enum_type and twin.enum_type:
            own = values(field.enum_type)
            if not all(own.get(number, "").endswith(f"_{name}") for number, name in values(twin.enum_type).items()):
                yield field.enum_type.full_name


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (rate_limits_pb2.ShouldRateLimitRequest.DESCRIPTOR, rls_pb2.RateLimitRequest.DESCRIPTOR),
        (rate_limits_pb2.ShouldRateLimitResponse.DESCRIPTOR, rls_pb2.RateLimitResponse.DESCRIPTOR),
    ],
    ids=["request", "response"],
)
def test_the_messages_have_envoys_numbers_and_types(ours: Descriptor, theirs: Descriptor) -> None:
    assert not list(differences(ours, theirs))


def test_a_request_of_envoys_is_read() -> None:
    entry = ratelimit_pb2.RateLimitDescriptor.Entry(key="remote_address", value="192.0.2.1")
    sent = rls_pb2.RateLimitRequest(
        domain="edge", descriptors=[ratelimit_pb2.RateLimitDescriptor(entries=[entry])], hits_addend=2
    )
    read = rate_limits_pb2.ShouldRateLimitRequest.FromString(sent.SerializeToString())
    assert (read.domain, read.hits_addend) == ("edge", 2)
    assert [(each.key, each.value) for each in read.descriptors[0].entries] == [("remote_address", "192.0.2.1")]


def test_envoy_reads_our_answer() -> None:
    current = rate_limits_pb2.CurrentRateLimit(
        requests_per_unit=100, unit=rate_limits_pb2.CurrentRateLimit.UNIT_WEEK, name="guests"
    )
    status = rate_limits_pb2.RateLimitDescriptorStatus(
        code=rate_limits_pb2.RATE_LIMIT_CODE_OVER_LIMIT, current_limit=current
    )
    status.duration_until_reset.seconds = 3
    sent = rate_limits_pb2.ShouldRateLimitResponse(
        overall_code=rate_limits_pb2.RATE_LIMIT_CODE_OVER_LIMIT,
        statuses=[status],
        response_headers_to_add=[rate_limits_pb2.RateLimitHeader(key="retry-after", value="3")],
    )
    read = rls_pb2.RateLimitResponse.FromString(sent.SerializeToString())
    assert read.overall_code == rls_pb2.RateLimitResponse.OVER_LIMIT
    assert (read.statuses[0].current_limit.requests_per_unit, read.statuses[0].current_limit.unit) == (100, LIMIT.WEEK)
    assert read.statuses[0].duration_until_reset.ToSeconds() == 3
    assert read.response_headers_to_add[0].value == "3"
