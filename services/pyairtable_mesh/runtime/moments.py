"""Instants: aware UTC datetimes inside, protobuf timestamps on the wire."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def utc_now() -> datetime:
    """The clock, as everything that takes a clock wants it."""
    return datetime.now(UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    """`moment` on the wire, to the microsecond."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def from_timestamp(timestamp: Timestamp) -> datetime:
    """The aware UTC datetime of a timestamp, nanoseconds cut off."""
    return timestamp.ToDatetime(UTC)
