"""Outermost: what the metadata says about the call, before anything else can fail."""

import re
import secrets
import time
from typing import Any

from pyairtable_mesh.runtime import context
from pyairtable_mesh.runtime.interceptors.call import Call, Method, Proceed

_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
MAX_HEADER_BYTES = 8192
"""An `authorization` value longer than this is treated as absent; gRPC bounds the metadata as a whole."""


def intercept(method: Method, proceed: Proceed) -> Proceed:
    """Take the correlation id (or make one), the trace parent, the token and the deadline from the call."""

    async def run(call: Call) -> Any:
        authorization = correlation_id = ""
        # gRPC gives bytes for keys ending in -bin alone.
        for key, value in call.rpc.invocation_metadata() or ():
            if key == "authorization" and len(value) <= MAX_HEADER_BYTES:
                authorization = value
            elif key == "traceparent":
                call.traceparent = value
            elif key == "x-correlation-id" and _CORRELATION_ID.fullmatch(value):
                correlation_id = value
        remaining = call.rpc.time_remaining()
        call.context = context.RequestContext(
            method.path,
            correlation_id or secrets.token_hex(16),
            deadline=float("inf") if remaining is None else time.monotonic() + remaining,
            authorization=authorization,
        )
        context.enter(call.context)
        return await proceed(call)

    return run
