"""One channel per service: found through the mesh, or at an address."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from interceptors import Outgoing

# An idle channel would forget what the control plane told it.
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
# The mesh's own policy, for channels that no control plane configures.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.025s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


@contextlib.asynccontextmanager
async def connect(target: str, outgoing: Outgoing) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to ``xds:///<service>`` or ``host:port``, closed behind the block; it connects with the first call.

    With an xds:/// target the control plane says how calls are balanced and retried; any other gets that policy here.
    Never both: two retry policies would multiply.
    """
    options = list(OPTIONS)
    if not target.startswith("xds:"):
        options += [("grpc.service_config", json.dumps(SERVICE_CONFIG)), ("grpc.service_config_disable_resolution", 1)]
    async with grpc.aio.insecure_channel(target, options, interceptors=outgoing.interceptors()) as channel:
        yield channel
