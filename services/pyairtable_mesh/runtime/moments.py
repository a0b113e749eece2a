"""Instants: aware UTC datetimes inside, protobuf timestamps on the wire."""

from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1) // timedelta(seconds=1)


def utc_now() -> datetime:
    """The clock, as everything that takes a clock wants it."""
    return datetime.now(UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    """`moment` on the wire, to the microsecond."""
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * _DAY + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """The aware UTC datetime of a timestamp, nanoseconds cut off."""
    return timestamp.ToDatetime(UTC)
