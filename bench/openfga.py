"""Checks over gRPC beside OpenFGA's Check on the same data and cores; batches, lists, the engine in process.

OpenFGA has the hierarchy as its users write it: five role levels at workspace, base, table and record, each with those
above it, bound to users and groups. The permission service has the same roles in its own model, and two processes,
which is what two cores take of Python; OpenFGA is one process on the same cores. Each has two clients, processes of
their own, that ask the same questions in turns; rounds alternate. All must answer every question alike, or nothing is
measured. Single-hop questions are about users with a role at the very table that is asked about; OpenFGA has these in
a store of their own, with a model of one relation. They are asked by StreamCheckPermissions too, which OpenFGA has no
like of: the same questions, as many at once, in one stream of each client and in a stream for each that is under way.

OpenFGA's in-memory store looks at all relationships for each that it reads, so that its figures fall with the size of
the data: the hierarchy has 20 records a table, then 1,000. It authenticates nobody; the permission service verifies a
token each time. What any answer over gRPC can reach at most, Python's server and the clients being what they are, is
told by a servicer that does nothing, two processes of it, asked by the same clients in the same ways.
"""

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc

from bench import echo, fga, load
from bench.figures import Figure, Goal
from bench.hierarchy import QUICK, RELATIONS, SIZES, TENANT, Data, Question, Size, hierarchy, single_hop
from bench.measure import BenchmarkError, Process, middle, middle_ratio, process
from bench.mesh import wait_until_serving
from bench.start import plans, running
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime import authorization as az

NOW = az.Circumstances(0.0)
CHECK = "/pyairtable.permission.v1.PermissionService/CheckPermission"
STREAM = "/pyairtable.permission.v1.PermissionService/StreamCheckPermissions"
ENDPOINTS, IN_FLIGHT, BATCH, UPDATES = 2, 8, 50, 1_000
LISTED = 1_000
"""How many objects OpenFGA lists at most, as it comes."""


class Service:
    """The permission service with a tenant's data, and the requests of its owner."""

    def __init__(self, channel: grpc.Channel, folder: DataFolder) -> None:
        self._stub: Any = permission_pb2_grpc.PermissionServiceStub(channel)  # type: ignore[arg-type] # the stubs know asyncio only
        self._tenants = _bearer(issuer.workload_token(issuer.workloads(folder), "tenant"))
        self.owner = _bearer(issuer.user_token(issuer.users(folder), people.ALICE.id, people.TENANT))

    def fill(self, data: Data) -> None:
        """Write everything, as the owner of the tenant."""
        self._grant(az.Binding("", "owner", TENANT, people.ALICE.subject), self._tenants)
        updates = [
            permission_pb2.RelationshipUpdate(
                operation=permission_pb2.RelationshipUpdate.OPERATION_TOUCH,
                relationship=permission_pb2.Relationship(
                    resource=each.object, relation=each.relation, subject=each.subject
                ),
            )
            for each in (*data.links, *data.members)
        ]
        for begin in range(0, len(updates), UPDATES):
            request = permission_pb2.WriteRelationshipsRequest(
                updates=updates[begin : begin + UPDATES], request_id=str(uuid.uuid4())
            )
            self._stub.WriteRelationships(request, metadata=self.owner, timeout=load.CALL_SECONDS)
        for each in data.bindings:
            self._grant(each, self.owner)

    def _grant(self, each: az.Binding, caller: Sequence[tuple[str, str]]) -> None:
        request = permission_pb2.GrantRoleRequest(
            role=f"roles/{each.role}", resource=each.resource, subject=each.subject, request_id=str(uuid.uuid4())
        )
        self._stub.GrantRole(request, metadata=caller, timeout=load.CALL_SECONDS)

    def check(self, question: Question) -> bool:
        """One question."""
        found = self._stub.CheckPermission(_request(question), metadata=self.owner, timeout=load.CALL_SECONDS)
        return bool(found.decision.result == permission_pb2.Decision.RESULT_ALLOWED)

    def stream(self, questions: Sequence[Question]) -> list[bool]:
        """Many questions in one stream."""
        asked = (_message(key, each) for key, each in enumerate(questions))
        found = self._stub.StreamCheckPermissions(asked, metadata=self.owner, timeout=load.CALL_SECONDS)
        answers = {each.key: each.result.decision.result == permission_pb2.Decision.RESULT_ALLOWED for each in found}
        return [answers[key] for key in range(len(questions))]

    def batch(self, questions: Sequence[Question]) -> list[bool]:
        """Many questions in one message."""
        request = permission_pb2.BatchCheckPermissionsRequest(items=map(_item, questions))
        found = self._stub.BatchCheckPermissions(request, metadata=self.owner, timeout=load.CALL_SECONDS)
        return [each.decision.result == permission_pb2.Decision.RESULT_ALLOWED for each in found.results]

    def resources(self, verb: str, who: str) -> int:
        """How many records somebody may act on."""
        request = permission_pb2.LookupResourcesRequest(resource_type="record", permission=verb, subject=who)
        found = self._stub.LookupResources(request, metadata=self.owner, timeout=load.CALL_SECONDS)
        return sum(len(each.resources) for each in found)


def _request(question: Question) -> Any:
    at, verb, who = question
    return permission_pb2.CheckPermissionRequest(resource=at, permission=verb, subject=who)


def _item(question: Question) -> permission_pb2.CheckItem:
    at, verb, who = question
    return permission_pb2.CheckItem(resource=at, permission=verb, subject=who)


def _message(key: int, question: Question) -> permission_pb2.StreamCheckPermissionsRequest:
    return permission_pb2.StreamCheckPermissionsRequest(key=key, item=_item(question))


def _bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def measure(*, quick: bool) -> Iterator[Figure]:
    """Calls a second of both services and their ratios; batches and lists; the engine in process."""
    with fga.serving() as peer:
        for size in (QUICK,) if quick else SIZES:
            data = Data(size)
            with ExitStack() as stack:
                ours, store = _service(stack, data), peer.store(hierarchy(), data.tuples())
                what = f"hierarchy of {len(data.tuples()):,}"
                yield from _rates(stack, what, data.questions, size, store, ours, Goal("at least", 100))
                yield Figure(f"{what}: engine in process", _in_process(data.engine(), data.questions), "checks/s")
                if size in (QUICK, SIZES[0]):
                    yield from _batches_and_lists(data, size, store, ours[1], what)
                    yield from _single_hop(stack, data, size, peer, ours)


def _batches_and_lists(data: Data, size: Size, store: fga.Store, ours: Service, what: str) -> Iterator[Figure]:
    yield from _batches(what, data.questions[:BATCH], data, size, store, ours)
    peer, engine = store.server, data.engine()
    lookup = az.ScopedLookup(engine)
    lengths = {user: len(lookup.resources("record", "read", user, NOW).entries) for user in data.users}
    who = max((user for user in lengths if lengths[user] <= LISTED), key=lengths.__getitem__)
    objects = store.objects("record", RELATIONS["read"], who)
    if not lengths[who] == len(peer.call("ListObjects", objects).objects) == ours.resources("read", who):
        raise BenchmarkError(f"OpenFGA, the permission service and the engine list other records ({what})")
    lists = f"{what}: {lengths[who]:,} records of a user"
    ways: dict[str, Callable[[], object]] = {
        f"{lists}: OpenFGA ListObjects": lambda: peer.call("ListObjects", objects),
        f"{lists}: LookupResources": lambda: ours.resources("read", who),
        f"{lists}: engine in process": lambda: lookup.resources("record", "read", who, NOW),
    }
    yield from _alternate(ways, size.rounds)


def _batches(
    what: str, questions: Sequence[Question], data: Data, size: Size, store: fga.Store, ours: Service
) -> Iterator[Figure]:
    request, engine = store.batch(list(map(_asked, questions))), data.engine()
    found = store.server.call("BatchCheck", request).result
    if [found[str(index)].allowed for index in range(len(questions))] != ours.batch(questions):
        raise BenchmarkError(f"OpenFGA and the permission service answer a batch differently ({what})")
    batches = f"{what}: batch of {len(questions)}"
    ways: dict[str, Callable[[], object]] = {
        f"{batches}: OpenFGA": lambda: store.server.call("BatchCheck", request),
        f"{batches}: BatchCheckPermissions": lambda: ours.batch(questions),
        f"{batches}: engine in process": lambda: engine.batch(questions, NOW),
    }
    yield from _alternate(ways, size.rounds)


def _single_hop(
    stack: ExitStack, data: Data, size: Size, peer: fga.Server, ours: tuple[Sequence[str], Service]
) -> Iterator[Figure]:
    store = peer.store(single_hop(), data.hops)
    streamed = (1, IN_FLIGHT)
    yield from _rates(stack, "single hop", data.single, size, store, ours, Goal("at least", 0.9), streamed)
    yield from _batches("single hop", data.single[:BATCH], data, size, store, ours[1])
    yield Figure("single hop: engine in process", _in_process(data.engine(), data.single), "checks/s")
    servers = [f"127.0.0.1:{stack.enter_context(process('-m', 'bench.echo')).line()}" for _ in range(ENDPOINTS)]
    for method, streams in ((echo.METHOD, 0), (echo.STREAM, 1), (echo.STREAM, IN_FLIGHT)):
        clients = [_client(stack, each, method, [b""], (), streams) for each in servers]
        calls = _calls(clients, size.seconds)
        rate = middle([_rate(clients, calls) for _ in range(size.rounds)])
        what = f"a servicer that does nothing{_in_streams(streams)}, {ENDPOINTS * IN_FLIGHT} in flight"
        yield Figure(what, rate, "calls/s")


def _service(stack: ExitStack, data: Data) -> tuple[list[str], Service]:
    """The addresses of the service's processes with the data in them, and its owner's requests."""
    folder = DataFolder(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))))
    found = [each for each in plans(folder.root, permission=ENDPOINTS) if each.service == "permission"]
    for each in found:
        wait_until_serving(stack.enter_context(running(each)), each.ports.health)
    channel = stack.enter_context(grpc.insecure_channel(found[0].address, load.OPTIONS))
    service = Service(channel, folder)
    service.fill(data)
    return [each.address for each in found], service


def _rates(
    stack: ExitStack,
    what: str,
    questions: Sequence[Question],
    size: Size,
    store: fga.Store,
    ours: tuple[Sequence[str], Service],
    goal: Goal,
    streamed: Sequence[int] = (),
) -> Iterator[Figure]:
    """Checks a second of both, and the ratios; with `streamed`, the service's also in so many streams a client."""
    requests, service = [store.check(_asked(each)) for each in questions], ours[1]
    answers = [store.server.call("Check", each).allowed for each in requests]
    if answers != list(map(service.check, questions)) or (streamed and answers != service.stream(questions)):
        raise BenchmarkError(f"OpenFGA and the permission service answer differently ({what})")
    peer = "OpenFGA Check"
    theirs = [_client(stack, store.server.address, f"/{fga.SERVICE}/Check", requests) for _ in range(ENDPOINTS)]
    contenders = {peer: theirs, **_own(stack, questions, ours, streamed)}
    calls = {name: _calls(clients, size.seconds) for name, clients in contenders.items()}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(size.rounds):
        for name, clients in sorted(contenders.items(), reverse=bool(number % 2)):
            rates[name].append(_rate(clients, calls[name]))
    for name, found in rates.items():
        yield Figure(f"{what}: {name}, {ENDPOINTS * IN_FLIGHT} in flight", middle(found), "calls/s")
    reference = rates.pop(peer)
    for name, found in rates.items():
        yield Figure(f"{what}: {name} against OpenFGA", middle_ratio(found, reference), goal=goal)


def _own(
    stack: ExitStack, questions: Sequence[Question], ours: tuple[Sequence[str], Service], streamed: Sequence[int]
) -> dict[str, list[Process]]:
    """The clients of the permission service, by how they ask."""
    endpoints, service = ours
    messages = [_message(*each).SerializeToString() for each in enumerate(questions)]
    ways = [(CHECK, [_request(each).SerializeToString() for each in questions], 0)]
    ways += [(STREAM, messages, streams) for streams in streamed]
    return {
        f"{method.rpartition('/')[2]}{_in_streams(streams)}": [
            _client(stack, each, method, asked, service.owner, streams) for each in endpoints
        ]
        for method, asked, streams in ways
    }


def _in_streams(streams: int) -> str:
    return f" in {ENDPOINTS * streams} streams" if streams else ""


def _client(
    stack: ExitStack,
    address: str,
    method: str,
    requests: Sequence[bytes],
    metadata: Sequence[tuple[str, str]] = (),
    streams: int = 0,
) -> Process:
    first, *others = requests
    arguments = load.arguments(address, method, IN_FLIGHT, first, metadata, others, streams=streams)
    client = stack.enter_context(process(*arguments))
    client.line()
    return client


def _rate(clients: Sequence[Process], calls: int) -> float:
    """Calls a second of clients that each make so many at once."""
    with ThreadPoolExecutor(len(clients)) as threads:
        seconds = max(map(float, threads.map(lambda client: client.ask(calls), clients)))
    return calls * len(clients) / seconds


def _calls(clients: Sequence[Process], seconds: float) -> int:
    """How many calls of each client take so long: a first round says how fast they are, and warms up."""
    share = _rate(clients, 4 * IN_FLIGHT) * seconds / len(clients)
    return max(1, round(share / IN_FLIGHT)) * IN_FLIGHT


def _in_process(engine: az.ScopedEngine, questions: Sequence[Question], rounds: int = 20) -> float:
    begun = time.perf_counter()
    for _ in range(rounds):
        engine.batch(questions, NOW)
    return rounds * len(questions) / (time.perf_counter() - begun)


def _alternate(ways: dict[str, Callable[[], object]], rounds: int) -> Iterator[Figure]:
    """The median milliseconds of each way."""
    spent: dict[str, list[float]] = {what: [] for what in ways}
    for number in range(rounds + 1):
        for what, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                spent[what].append((time.perf_counter() - begun) * 1e3)
    for what, found in spent.items():
        yield Figure(what, middle(found), "ms")


def _asked(question: Question) -> fga.Tuple:
    at, verb, who = question
    return at, RELATIONS[verb], who
