"""`helm test`: every service answers grpc.health.v1, through its Service and, with a control plane, over xDS."""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pyairtable_mesh.runtime import xds

SECONDS = 60


def serving(target: str, service: str) -> bool:
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            status = stub.Check(request, timeout=SECONDS, wait_for_ready=True).status
        except grpc.RpcError as error:
            print(f"{target}: {error.code().name}: {error.details()}")
            return False
    print(f"{target}: {service} is {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")
    return status == health_pb2.HealthCheckResponse.SERVING


control_plane, namespace = os.environ["PYAIRTABLE_CONTROL_PLANE"], os.environ["PYAIRTABLE_NAMESPACE"]
xds.configure(
    os.environ, control_plane=control_plane, service="mesh-test", namespace=namespace, instance=xds.instance_name()
)
schemes = ["dns:///{}:50051", *(["xds:///{}"] if control_plane else [])]
asked = [argument.split("=", 1) for argument in sys.argv[1:]]
answers = [serving(scheme.format(name), service) for name, service in asked for scheme in schemes]
sys.exit(not all(answers))
