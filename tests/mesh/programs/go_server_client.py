"""Calls the example server in Go over the mesh, with a token, and prints a JSON object of what it says."""

import asyncio
import json
import sys
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from pyairtable.common.v1 import common_pb2, common_pb2_grpc


async def main(token: str) -> dict[str, Any]:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    async with grpc.aio.insecure_channel("xds:///go-server") as channel:
        stub = common_pb2_grpc.DiagnosticsServiceStub(channel)
        try:
            info = await stub.GetServiceInfo(common_pb2.GetServiceInfoRequest(), metadata=metadata, timeout=30)
            health = await stub.GetHealthReport(common_pb2.GetHealthReportRequest(), metadata=metadata, timeout=30)
        except grpc.aio.AioRpcError as error:
            return {"status": error.code().name, "reason": reason(error)}
    states = {each.name: common_pb2.HealthState.Name(each.state) for each in health.dependencies}
    return {"service": info.service, "runtime": info.build.runtime_version, "dependencies": states}


def reason(error: Any) -> str:
    info = error_details_pb2.ErrorInfo()
    return next((info.reason for detail in rpc_status.from_call(error).details if detail.Unpack(info)), "")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
