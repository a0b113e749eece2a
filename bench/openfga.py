"""CheckPermission over gRPC beside OpenFGA's Check on the same data and cores; batches, lists, the engine in process.

OpenFGA has the hierarchy as its users write it: five role levels at workspace, base, table and record, each with those
above it, bound to users and groups. The permission service has the same roles in its own model, and two processes,
which is what two cores take of Python; OpenFGA is one process on the same cores. Each has two clients, processes of
their own, that ask the same questions in turns; rounds alternate. All must answer every question alike, or nothing is
measured. Single-hop questions are about users with a role at the very table that is asked about; OpenFGA has these in
a store of their own, with a model of one relation.

OpenFGA's in-memory store looks at all relationships for each that it reads, so that its figures fall with the size of
the data: the hierarchy has 20 records a table, then 1,000. It authenticates nobody; the permission service verifies a
token each time. What any answer over gRPC can reach at most, Python's server and the clients being what they are, is
told by a servicer that does nothing, two processes of it, asked by the same clients.
"""

import random
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from bench import echo, fga, load
from bench.figures import Figure, Goal
from bench.measure import BenchmarkError, Process, middle, middle_ratio, process
from bench.mesh import wait_until_serving
from bench.start import plans, running
from pyairtable.permission.v1 import permission_pb2, permission_pb2_grpc
from pyairtable_laptop import issuer, people
from pyairtable_laptop.folder import DataFolder
from pyairtable_mesh.runtime import authorization as az
from pyairtable_mesh.runtime import ids
from pyairtable_mesh.runtime.authorization import product

CHECK = "/pyairtable.permission.v1.PermissionService/CheckPermission"
ENDPOINTS, IN_FLIGHT, BATCH, UPDATES = 2, 8, 50, 1_000
LISTED = 1_000
"""How many objects OpenFGA lists at most, as it comes."""
ROLES = ("owner", "creator", "editor", "commenter", "viewer")
ABOVE = {"workspace": "", "base": "workspace", "table": "base", "record": "table"}
PREFIXES = {"user": "usr", "group": "grp", "workspace": "wsp", "base": "app", "table": "tbl", "record": "rec"}
RELATIONS = {"read": "viewer", "update": "editor"}
TENANT = f"tenant:{people.TENANT}"
NOW = az.Circumstances(0.0)
Question = tuple[str, str, str]
"""(resource, verb, subject)."""


@dataclass(frozen=True, slots=True)
class Size:
    """How many there are, of bases and below in each of what they are in; how many rounds of how many seconds."""

    workspaces: int = 2
    bases: int = 4
    tables: int = 5
    records: int = 20
    users: int = 100
    groups: int = 10
    bindings: int = 300
    questions: int = 200
    seconds: float = 2.0
    rounds: int = 6


SIZES = (Size(), Size(records=1_000))
QUICK = Size(1, 2, 2, 3, 10, 2, 24, 20, 0.05, 1)


class Data:
    """A tenant's hierarchy, groups and role bindings, the same each time but for ids, and questions about them."""

    def __init__(self, size: Size) -> None:
        chance = random.Random(9)
        self.users, groups = _new("user", size.users), _new("group", size.groups)
        resources = {"workspace": _new("workspace", size.workspaces)}
        self.links: list[az.Relationship] = []
        for kind, count in (("base", size.bases), ("table", size.tables), ("record", size.records)):
            for above in resources[ABOVE[kind]]:
                children = _new(kind, count)
                resources.setdefault(kind, []).extend(children)
                self.links += [az.Relationship(child, ABOVE[kind], above) for child in children]
        self.members = [
            az.Relationship(group, "member", user) for user in self.users for group in chance.sample(groups, 2)
        ]
        bound: dict[tuple[str, str], str] = {}
        for number in range(size.bindings):
            at = chance.choice(resources[list(ABOVE)[number % 4]])
            who = f"{chance.choice(groups)}#member" if number % 5 == 0 else chance.choice(self.users)
            bound[at, who] = chance.choice(ROLES[1:])
        self.bindings = [az.Binding(f"{at} {who}", role, at, who) for (at, who), role in bound.items()]
        self.questions: list[Question] = [
            (chance.choice(resources["record"]), chance.choice(list(RELATIONS)), chance.choice(self.users))
            for _ in range(size.questions)
        ]
        self.hops = [(at, "viewer", who) for at, who in bound if at.startswith("table:") and who in self.users]
        self.single: list[Question] = [(at, "read", who) for at, _, who in chance.choices(self.hops, k=size.questions)]

    def tuples(self) -> list[fga.Tuple]:
        """All of it as relationships."""
        return [
            *((each.object, each.relation, each.subject) for each in (*self.links, *self.members)),
            *((each.resource, each.role, each.subject) for each in self.bindings),
        ]

    def engine(self) -> az.ScopedEngine:
        """All of it in an engine."""
        engine = az.ScopedEngine(product.policy(), TENANT)
        engine.apply(1, [az.RoleChange(role, each) for role, each in product.system_roles().items()])
        engine.apply(2, [*map(az.Change, (*self.links, *self.members)), *map(az.BindingChange, self.bindings)])
        return engine


def _new(kind: str, count: int) -> list[str]:
    return [f"{kind}:{ids.new_id(PREFIXES[kind])}" for _ in range(count)]


def hierarchy() -> list[dict[str, Any]]:
    """The hierarchy in OpenFGA's JSON form: a role is bound, or comes with the one above it, or from the parent."""
    types = [{"type": "user"}, _type("group", {"member": {"this": {}}}, {"member": ["user", "group#member"]})]
    for kind, parent in ABOVE.items():
        link: dict[str, Any] = {parent: {"this": {}}} if parent else {}
        roles = {role: _role(number, parent) for number, role in enumerate(ROLES)}
        admitted = {parent: [parent]} if parent else {}
        types.append(_type(kind, {**link, **roles}, admitted | {role: ["user", "group#member"] for role in ROLES}))
    return types


def single_hop() -> list[dict[str, Any]]:
    """A model of one relation."""
    return [{"type": "user"}, _type("table", {"viewer": {"this": {}}}, {"viewer": ["user"]})]


def _role(number: int, parent: str) -> dict[str, Any]:
    ways: list[dict[str, Any]] = [{"this": {}}]
    if number:
        ways.append({"computedUserset": {"relation": ROLES[number - 1]}})
    if parent:
        above = {"tupleset": {"relation": parent}, "computedUserset": {"relation": ROLES[number]}}
        ways.append({"tupleToUserset": above})
    return {"union": {"child": ways}} if len(ways) > 1 else ways[0]


def _type(kind: str, relations: dict[str, Any], admitted: dict[str, list[str]]) -> dict[str, Any]:
    directly = {
        name: {"directly_related_user_types": [_subject_type(each) for each in found]}
        for name, found in admitted.items()
    }
    return {"type": kind, "relations": relations, "metadata": {"relations": directly}}


def _subject_type(text: str) -> dict[str, str]:
    kind, _, relation = text.partition("#")
    return {"type": kind, "relation": relation} if relation else {"type": kind}


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

    def batch(self, questions: Sequence[Question]) -> list[bool]:
        """Many questions."""
        items = [permission_pb2.CheckItem(resource=at, permission=verb, subject=who) for at, verb, who in questions]
        request = permission_pb2.BatchCheckPermissionsRequest(items=items)
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
    peer, engine, part = store.server, data.engine(), data.questions[:BATCH]
    batch = store.batch(list(map(_asked, part)))
    lookup = az.ScopedLookup(engine)
    lengths = {user: len(lookup.resources("record", "read", user, NOW).entries) for user in data.users}
    who = max((user for user in lengths if lengths[user] <= LISTED), key=lengths.__getitem__)
    objects = store.objects("record", RELATIONS["read"], who)
    if not lengths[who] == len(peer.call("ListObjects", objects).objects) == ours.resources("read", who):
        raise BenchmarkError(f"OpenFGA, the permission service and the engine list other records ({what})")
    batches, lists = f"{what}: batch of {BATCH}", f"{what}: {lengths[who]:,} records of a user"
    ways: dict[str, Callable[[], object]] = {
        f"{batches}: OpenFGA": lambda: peer.call("BatchCheck", batch),
        f"{batches}: BatchCheckPermissions": lambda: ours.batch(part),
        f"{batches}: engine in process": lambda: engine.batch(part, NOW),
        f"{lists}: OpenFGA ListObjects": lambda: peer.call("ListObjects", objects),
        f"{lists}: LookupResources": lambda: ours.resources("read", who),
        f"{lists}: engine in process": lambda: lookup.resources("record", "read", who, NOW),
    }
    for way, milliseconds in _alternate(ways, size.rounds).items():
        yield Figure(way, milliseconds, "ms")


def _single_hop(
    stack: ExitStack, data: Data, size: Size, peer: fga.Server, ours: tuple[Sequence[str], Service]
) -> Iterator[Figure]:
    store = peer.store(single_hop(), data.hops)
    yield from _rates(stack, "single hop", data.single, size, store, ours, Goal("at least", 0.9))
    yield Figure("single hop: engine in process", _in_process(data.engine(), data.single), "checks/s")
    servers = [stack.enter_context(process("-m", "bench.echo")) for _ in range(ENDPOINTS)]
    clients = [_client(stack, f"127.0.0.1:{each.line()}", echo.METHOD, [b""]) for each in servers]
    calls = _calls(clients, size.seconds)
    rate = middle([_rate(clients, calls) for _ in range(size.rounds)])
    yield Figure(f"a servicer that does nothing, {ENDPOINTS * IN_FLIGHT} in flight", rate, "calls/s")


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
) -> Iterator[Figure]:
    """Checks a second of both, and the ratio."""
    endpoints, service = ours
    requests = [store.check(_asked(each)) for each in questions]
    answers = [store.server.call("Check", each).allowed for each in requests]
    if answers != list(map(service.check, questions)):
        raise BenchmarkError(f"OpenFGA and the permission service answer differently ({what})")
    method = f"/{fga.SERVICE}/Check"
    theirs = [_client(stack, store.server.address, method, requests) for _ in endpoints]
    own = [_request(each).SerializeToString() for each in questions]
    mine = [_client(stack, each, CHECK, own, service.owner) for each in endpoints]
    contenders = {"OpenFGA Check": theirs, "CheckPermission": mine}
    calls = {name: _calls(clients, size.seconds) for name, clients in contenders.items()}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(size.rounds):
        for name, clients in sorted(contenders.items(), reverse=bool(number % 2)):
            rates[name].append(_rate(clients, calls[name]))
    for name, found in rates.items():
        yield Figure(f"{what}: {name}, {ENDPOINTS * IN_FLIGHT} in flight", middle(found), "calls/s")
    ratio = middle_ratio(rates["CheckPermission"], rates["OpenFGA Check"])
    yield Figure(f"{what}: CheckPermission against OpenFGA, calls/s", ratio, goal=goal)


def _client(
    stack: ExitStack, address: str, method: str, requests: Sequence[bytes], metadata: Sequence[tuple[str, str]] = ()
) -> Process:
    first, *others = requests
    client = stack.enter_context(process(*load.arguments(address, method, IN_FLIGHT, first, metadata, others)))
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


def _alternate(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median milliseconds of each way."""
    spent: dict[str, list[float]] = {what: [] for what in ways}
    for number in range(rounds + 1):
        for what, way in ways.items():
            begun = time.perf_counter()
            way()
            if number:
                spent[what].append((time.perf_counter() - begun) * 1e3)
    return {what: middle(found) for what, found in spent.items()}


def _asked(question: Question) -> fga.Tuple:
    at, verb, who = question
    return at, RELATIONS[verb], who
