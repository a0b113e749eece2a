"""Calls to other services: one channel per peer, found through the mesh, with everything a call must carry.

With a control plane a peer is ``xds:///<service>``: endpoints, balancing and retries come over xDS. Without one it is
an address or a DNS name, and the same retry policy goes into the channel's service config. Never both.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc

from pyairtable_mesh.runtime import client, context
from pyairtable_mesh.runtime.retries import RetryPolicy
from pyairtable_mesh.runtime.telemetry import Telemetry

Stub = TypeVar("Stub")

MAX_IDLE_MS = 2**31 - 1
"""`grpc.client_idle_timeout_ms`: an idle channel would drop its xDS client and what that had learnt."""
OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.client_idle_timeout_ms", MAX_IDLE_MS),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # By default a peer that was away for minutes would not be tried again for up to two more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.service_config_disable_resolution", 1),
)


class WorkloadToken:
    """The process's own token, from a file that is replaced before the token expires; read at most once a second."""

    def __init__(self, path: str) -> None:
        self._path = Path(path) if path else None
        self._header = ""
        self._read_at = float("-inf")

    def header(self) -> str:
        """``Bearer …``; empty when the process has no identity."""
        if self._path is not None and time.monotonic() - self._read_at > 1.0:
            with suppress(OSError):
                self._header = f"Bearer {self._path.read_text().strip()}"
            self._read_at = time.monotonic()
        return self._header


class Peers:
    """The channels of a process. Made inside the running event loop; close it when the process ends."""

    def __init__(
        self,
        *,
        control_plane: str,
        addresses: Mapping[str, str],
        own_token: WorkloadToken,
        telemetry: Telemetry,
        retries: RetryPolicy,
        max_message_bytes: int,
    ) -> None:
        self._control_plane = control_plane
        self._addresses = addresses
        self._token = own_token
        self._telemetry = telemetry
        self._retries = retries
        self._max_message_bytes = max_message_bytes
        self._channels: dict[str, grpc.aio.Channel] = {}

    def target(self, service: str) -> str:
        """What the channel to a service is opened with."""
        if service in self._addresses:
            return self._addresses[service]
        return f"xds:///{service}" if self._control_plane else f"dns:///{service}:50051"

    def channel(self, service: str) -> grpc.aio.Channel:
        """The one channel to a service. It connects at once, so that what it needs to know of its peer is there before
        the first call, should the control plane be away by then.
        """
        if service not in self._channels:
            target = self.target(service)
            options = [*OPTIONS, ("grpc.max_receive_message_length", self._max_message_bytes)]
            if not target.startswith("xds:"):
                options.append(("grpc.service_config", json.dumps(self._retries.service_config())))
            outgoing = client.Outgoing(service, self._telemetry, self._metadata)
            made = grpc.aio.insecure_channel(target, options, interceptors=outgoing.interceptors())
            made.get_state(try_to_connect=True)
            self._channels[service] = made
        return self._channels[service]

    def stub(self, make: Callable[[Any], Stub], service: str) -> Stub:
        """A generated stub over the channel to a service; its failures are errors of the tree."""
        return make(self.channel(service))

    async def close(self) -> None:
        """Close every channel; calls in flight are cancelled."""
        for channel in self._channels.values():
            await channel.close()

    def _metadata(self, traceparent: str) -> list[tuple[str, str]]:
        call = context.current_or_none()
        metadata = [("traceparent", traceparent)] if traceparent else []
        if call is not None:
            metadata.append(("x-correlation-id", call.correlation_id))
            if call.consistency_token:
                metadata.append(("x-consistency-token", call.consistency_token))
        header = call.authorization if call is not None else self._token.header()
        return [*metadata, ("authorization", header)] if header else metadata
