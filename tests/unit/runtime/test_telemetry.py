"""Trace context from hop to hop, and which traces are sampled."""

import random
from collections.abc import Iterator

import pytest
from opentelemetry import trace

from pyairtable_mesh.runtime import telemetry
from pyairtable_mesh.runtime.telemetry import Telemetry, parent_of, start_server_span, traceparent_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(params=[0.0, 1.0])
def observer(request: pytest.FixtureRequest) -> Iterator[Telemetry]:
    made = telemetry.start("test", namespace="default", instance="1", sample_ratio=request.param)
    yield made
    made.close()


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_below_an_unsampled_caller_the_callers_span_goes_on(observer: Telemetry, flags: str) -> None:
    header = f"00-{TRACE}-{SPAN}-{flags}"
    span, inside, trace_id = start_server_span(observer, "a/B", header)
    assert (span.is_recording(), trace_id) == (False, TRACE)
    assert traceparent_of(trace.get_current_span(inside)) == header


@pytest.mark.parametrize("flags", ["01", "03"])
def test_below_a_sampled_caller_there_is_a_span_of_the_same_trace(observer: Telemetry, flags: str) -> None:
    span, inside, trace_id = start_server_span(observer, "a/B", f"00-{TRACE}-{SPAN}-{flags}")
    assert (span.is_recording(), trace_id) == (True, TRACE)
    carried = traceparent_of(trace.get_current_span(inside))
    assert carried.startswith(f"00-{TRACE}-")
    assert SPAN not in carried


MALFORMED = {
    "absent": "",
    "nonsense": "nonsense",
    "no trace id": f"00-{'0' * 32}-{SPAN}-00",
    "no span id": f"00-{TRACE}-{'0' * 16}-00",
    "another version": f"01-{TRACE}-{SPAN}-00",
    "odd flags": f"00-{TRACE}-{SPAN}-0g",
}


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_header_begins_a_trace_of_ones_own(observer: Telemetry, header: str) -> None:
    assert parent_of(header) is None
    span, inside, trace_id = start_server_span(observer, "a/B", header)
    assert span.is_recording() is (observer.sample_ratio == 1)
    assert trace_id not in {"0" * 32, TRACE}
    assert traceparent_of(trace.get_current_span(inside)).startswith(f"00-{trace_id}-")


@pytest.mark.parametrize("observer", [0.5], indirect=True)
def test_a_trace_that_begins_here_is_drawn_once(observer: Telemetry, monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.4, 0.6, 0.4])
    monkeypatch.setattr(random, "random", lambda: next(draws))
    sampled = [start_server_span(observer, "a/B", "")[0].is_recording() for _ in range(3)]
    assert sampled == [True, False, True]
