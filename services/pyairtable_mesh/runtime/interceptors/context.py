"""Outermost: what the metadata says about the call, before anything else can fail."""

import re
import secrets
import time
from math import inf
from typing import Any, cast

from pyairtable_mesh.runtime import context
from pyairtable_mesh.runtime.interceptors.call import Call, Check, Gate, Method

_is_correlation_id = re.compile(r"[A-Za-z0-9._:/-]{1,128}").fullmatch
MAX_HEADER_BYTES = 8192
"""An `authorization` value longer than this is treated as absent; gRPC bounds the metadata as a whole."""


def _check_of(method: Method) -> Check:
    def take(call: Call) -> None:
        metadata: dict[str, Any] = dict(call.metadata)
        authorization: str = metadata.get("authorization", "")
        correlation_id: str = metadata.get("x-correlation-id", "")
        call.traceparent = metadata.get("traceparent", "")
        if not _is_correlation_id(correlation_id):
            correlation_id = secrets.token_hex(16)
        # Typed as float, and None without a deadline.
        remaining = cast("float | None", call.rpc.time_remaining())
        call.context = context.RequestContext(
            method.path,
            correlation_id,
            deadline=inf if remaining is None else time.monotonic() + remaining,
            authorization=authorization if len(authorization) <= MAX_HEADER_BYTES else "",
            consistency_token=metadata.get("x-consistency-token", ""),
        )
        context.enter(call.context)

    return take


gate = Gate(_check_of)
"""Takes the correlation id (or makes one), the trace parent, the tokens and the deadline from the call."""
