"""A mesh without a network: a fake control plane and fake services that answer from tables."""

import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import click.testing
import jwt
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from pyairtable.common.v1 import common_pb2
from pyairtable.mesh.v1 import mesh_pb2
from pyairtable_mesh.meshctl import rpc
from pyairtable_mesh.meshctl.app import cli
from pyairtable_mesh.meshctl.environment import Environment
from pyairtable_mesh.meshctl.failures import CallError

PLANE = "127.0.0.1:18000"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALICE = "usr01m8473sshe2pag2k9543gx0z1"
TENANT = "ten01m8473sshe2pag2k951980s3c"

Answer = Sequence[Message] | CallError


def token(subject: str = ALICE, *, expiry: datetime = datetime(2026, 3, 2, tzinfo=UTC)) -> str:
    claims = {"sub": subject, "tenant": TENANT, "exp": expiry}
    return jwt.encode(claims, "a key of the tests, at least 32 bytes long", algorithm="HS256")


def failure(code: int, message: str = "", *details: Message) -> CallError:
    status = status_pb2.Status(code=code, message=message)
    for detail in details:
        status.details.add().Pack(detail)
    return CallError(status)


UNAVAILABLE = failure(14, "connection refused")
UNAUTHENTICATED = failure(
    16, "the token is not ours", error_details_pb2.ErrorInfo(reason="TOKEN_INVALID", domain="pyairtable.io")
)


@dataclass(frozen=True, slots=True)
class Sent:
    address: str
    method: str
    requests: Sequence[Message]
    metadata: Mapping[str, str | bytes]
    seconds: float | None


@dataclass(slots=True)
class FakeMesh:
    """Answers by address and method name; what has no answer is UNAVAILABLE."""

    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)

    @asynccontextmanager
    async def connect(self, address: str) -> AsyncIterator[rpc.Connection]:
        yield FakeConnection(self, address)

    def serve(self, address: str, method: str, *answer: Message) -> None:
        self.answers[address, method] = answer

    def fail(self, address: str, method: str, error: CallError) -> None:
        self.answers[address, method] = error

    def healthy(self, address: str, report: common_pb2.HealthReport) -> None:
        serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        self.serve(address, "Check", serving)
        self.serve(address, "GetHealthReport", report)


@dataclass(frozen=True, slots=True)
class FakeConnection:
    mesh: FakeMesh
    address: str

    async def call(
        self,
        method: MethodDescriptor,
        requests: Sequence[Message],
        *,
        metadata: rpc.Metadata = (),
        seconds: float | None = None,
    ) -> AsyncIterator[Message]:
        self.mesh.sent.append(Sent(self.address, method.full_name, requests, dict(metadata), seconds))
        answer = self.mesh.answers.get((self.address, method.name), UNAVAILABLE)
        if isinstance(answer, CallError):
            raise answer
        for message in answer:
            yield message


def no_program(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    raise FileNotFoundError(command[0])


Program = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]


def invoke(
    mesh: FakeMesh,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    program: Program = no_program,
    standard_input: str = "",
) -> click.testing.Result:
    """Run meshctl against a fake mesh; an exception that no user should see fails the test."""
    environment = Environment({"HOME": "/nonexistent", **(variables or {})}, mesh.connect, program, lambda: NOW)
    runner = click.testing.CliRunner()
    return runner.invoke(cli, arguments, obj=environment, catch_exceptions=False, input=standard_input)


def service(name: str, *endpoints: mesh_pb2.Endpoint, problem: str = "", clients: int = 2) -> mesh_pb2.Service:
    canonical = f"{name}.pyairtable.svc.cluster.local:50051"
    return mesh_pb2.Service(
        name=f"services/{canonical}",
        canonical_name=canonical,
        short_name=name,
        namespace="pyairtable",
        port=50051,
        endpoints=endpoints,
        identities=[f"spiffe://pyairtable.local/ns/pyairtable/sa/{name}"],
        version="9f2c41d7a0b3e865",
        acknowledgement=mesh_pb2.Acknowledgement(subscribed_clients=clients, acknowledged_clients=clients),
        problems=[problem] if problem else [],
    )


def endpoint(
    address: str, state: "mesh_pb2.EndpointState.ValueType" = mesh_pb2.ENDPOINT_STATE_HEALTHY
) -> mesh_pb2.Endpoint:
    return mesh_pb2.Endpoint(
        address=address, state=state, weight=1, locality=mesh_pb2.Locality(zone="a"), instance=f"at-{address[-5:]}"
    )


def client(node: str, *, refusal: str = "", acknowledged: str = "11aa22bb33cc44dd") -> mesh_pb2.Client:
    result = mesh_pb2.Client(
        name=f"clients/{node[-1]}",
        node_id=node,
        namespace="pyairtable",
        peer_address="127.0.0.1:40312",
        user_agent="gRPC C-core 53.0.0",
        subscriptions=[
            mesh_pb2.ClientSubscription(
                type=mesh_pb2.RESOURCE_TYPE_LISTENER,
                resource_names=["permission"],
                sent_version="11aa22bb33cc44dd",
                acknowledged_version=acknowledged,
            )
        ],
    )
    result.connect_time.FromJsonString("2026-03-01T11:58:00Z")
    if refusal:
        result.subscriptions.add(
            type=mesh_pb2.RESOURCE_TYPE_CLUSTER,
            resource_names=["permission.pyairtable.svc.cluster.local:50051"],
            sent_version="55ee66ff77007700",
            acknowledged_version="0123456789abcdef",
            refused_version="55ee66ff77007700",
            refusal=refusal,
        )
    return result


def health(*dependencies: common_pb2.DependencyHealth) -> common_pb2.HealthReport:
    return common_pb2.HealthReport(state=common_pb2.HEALTH_STATE_HEALTHY, dependencies=dependencies)


def dependency(name: str, *, required: bool = True, message: str = "") -> common_pb2.DependencyHealth:
    state = common_pb2.HEALTH_STATE_UNHEALTHY if message else common_pb2.HEALTH_STATE_HEALTHY
    return common_pb2.DependencyHealth(name=name, state=state, message=message, required=required)


def platform(*services: mesh_pb2.Service, clients: Sequence[mesh_pb2.Client] = ()) -> FakeMesh:
    """A mesh whose control plane knows these services and clients, and whose endpoints are healthy."""
    mesh = FakeMesh()
    version = "77f0c2d1e5a49b38"
    mesh.serve(PLANE, "ListServices", mesh_pb2.ListServicesResponse(services=services, snapshot_version=version))
    mesh.serve(PLANE, "ListClients", mesh_pb2.ListClientsResponse(clients=clients))
    for known in services:
        for found in known.endpoints:
            mesh.healthy(found.address, health(dependency("database")))
    return mesh
