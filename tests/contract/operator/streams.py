"""ADS streams as a client has them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2

from pyairtable_operator.xds import ads

STREAM = f"/{ads.SERVICE_NAME}/StreamAggregatedResources"


@contextlib.asynccontextmanager
async def stream(address: str, path: str = STREAM) -> AsyncIterator[Any]:
    """A stream to an ADS server, until the block ends."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(
            path,
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )()
        yield call
        call.cancel()
