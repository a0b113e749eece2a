"""The authorization engine in process: checks, lists, memory and start from a snapshot, with pycasbin beside it.

One tenant with 1,000,000 records (50 workspaces of 20 bases of 10 tables of 100 records), 25,000 users in 200 groups
and 120,000 role bindings at every level, one in five of them to a group. A process of its own builds it and writes a
snapshot; another one loads that, as a replica does, and is measured. Questions are about records, from 1,000 users;
all were asked once before, but for the figure that says first. Clocks cost about 0.1 us of each time.

pycasbin has the same hierarchy and groups in its own model, with 1,000 bindings and no more: it looks at every one.
"""

import gc
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.figures import Figure, Goal
from bench.measure import percentile, process
from pyairtable_mesh.runtime import authorization as az
from pyairtable_mesh.runtime.authorization import product

TENANT = "tenant:bench"
WORKSPACES, BASES, TABLES, RECORDS = 50, 20, 10, 100
USERS, GROUPS, BINDINGS, PEERS_BINDINGS = 25_000, 200, 120_000, 1_000
QUESTIONS = 20_000
NOW = az.Circumstances(0.0)
SECONDS = 300.0


def measure(*, quick: bool) -> Iterator[Figure]:
    """All figures; quick means one workspace, and figures that mean nothing."""
    size = "quick" if quick else "full"
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        snapshot = str(Path(place) / "snapshot")
        with process("-m", "bench.engine", "build", size, snapshot) as building:
            building.line(SECONDS)
        with process("-m", "bench.engine", "load", size, snapshot) as loading:
            found = json.loads(loading.line(SECONDS))
        with process("-m", "bench.engine", "peer", size, snapshot) as peer:
            found |= json.loads(peer.line(SECONDS))
    yield Figure("allowed(handles), p50", found["allowed"][0], "us", Goal("at most", 1))
    yield Figure("allowed(handles), p99", found["allowed"][1], "us", Goal("at most", 5))
    yield Figure("check(strings), p50", found["check"][0], "us", Goal("at most", 4))
    yield Figure("check(strings), p99", found["check"][1], "us", Goal("at most", 10))
    yield Figure("check(strings), asked for the first time, p50", found["first"][0], "us")
    yield Figure("batch of 1,000", found["batch"], "ms", Goal("at most", 5))
    yield Figure("first 100 of all records", found["list"], "ms", Goal("at most", 1))
    yield Figure("who can see, all users", found["who"], "ms", Goal("at most", 10))
    yield Figure("relationships ready from a snapshot", found["load"], "s", Goal("at most", 5))
    yield Figure("memory that they add", found["memory"], "MB", Goal("at most", 300))
    yield Figure("pycasbin, enforce with 1,000 bindings, p50", found["peer"][0], "us")


def bases(workspaces: int) -> Iterator[tuple[str, str]]:
    """Every base with its workspace."""
    for workspace in range(workspaces):
        for base in range(BASES):
            yield f"base:{workspace}-{base}", f"workspace:{workspace}"


def links(workspaces: int) -> Iterator[tuple[str, str, str]]:
    """(child, relation, parent) of the whole hierarchy below workspaces."""
    for base, workspace in bases(workspaces):
        yield base, "workspace", workspace
        name = base.removeprefix("base:")
        for table in range(TABLES):
            yield f"table:{name}-{table}", "base", base
            for record in range(RECORDS):
                yield f"record:{name}-{table}-{record}", "table", f"table:{name}-{table}"


def some_resource(chance: random.Random, workspaces: int, level: int) -> str:
    """A resource of a level, 0 for workspaces to 3 for records."""
    sizes = [workspaces, BASES, TABLES, RECORDS][: level + 1]
    kind = ["workspace", "base", "table", "record"][level]
    return f"{kind}:{'-'.join(str(chance.randrange(size)) for size in sizes)}"


def bindings(workspaces: int, count: int) -> Iterator[az.Binding]:
    """Roles of five levels, bound at every level; owners are few."""
    chance = random.Random(6)
    roles = ["viewer", "commenter", "editor", "creator"]
    for number in range(count):
        who = f"group:{chance.randrange(GROUPS)}#member" if number % 5 == 0 else f"user:{chance.randrange(USERS)}"
        role = "owner" if number % 1_000 == 0 else chance.choice(roles)
        yield az.Binding(str(number), role, some_resource(chance, workspaces, chance.randrange(4)), who)


def memberships() -> Iterator[az.Relationship]:
    """Each user in two groups, and everybody in one more."""
    chance = random.Random(7)
    for user in range(USERS):
        for group in [*chance.sample(range(GROUPS), 2), "all"]:
            yield az.Relationship(f"group:{group}", "member", f"user:{user}")


def build(workspaces: int, path: Path) -> None:
    """Write the snapshot of the whole tenant."""
    engine = az.ScopedEngine(product.policy(), TENANT)
    roles = [az.RoleChange(role, permissions) for role, permissions in product.system_roles().items()]
    engine.apply(1, roles)
    engine.apply(2, (az.Change(az.Relationship(*each)) for each in links(workspaces)))
    engine.apply(3, map(az.Change, memberships()))
    engine.apply(4, map(az.BindingChange, bindings(workspaces, BINDINGS * workspaces // WORKSPACES)))
    everybody = az.Binding("all", "viewer", "workspace:0", "group:all#member")
    engine.apply(5, [az.BindingChange(everybody), az.BindingChange(az.Binding("one", "viewer", TENANT, "user:0"))])
    path.write_bytes(az.dump(engine))
    print("built", flush=True)


def load(workspaces: int, path: Path) -> None:
    """Load the snapshot and print all that is measured, as JSON."""
    data = path.read_bytes()
    before = resident()
    begun = time.perf_counter()
    engine = az.load_scoped(data, product.policy())
    loaded = time.perf_counter() - begun
    found: dict[str, Any] = {"load": loaded, "memory": resident() - before}
    chance = random.Random(8)
    questions = [
        (some_resource(chance, workspaces, 3), chance.choice(["read", "update"]), f"user:{chance.randrange(1_000)}")
        for _ in range(QUESTIONS)
    ]
    handles = [
        (engine.handle(who), engine.permission(f"record.{verb}"), engine.handle(at)) for at, verb, who in questions
    ]
    found["first"] = times(partial(engine.check, given=NOW), [(each,) for each in questions])
    found["check"] = times(partial(engine.check, given=NOW), [(each,) for each in questions])
    found["allowed"] = times(engine.allowed, [(*each, 0.0) for each in handles])
    found["batch"] = best(lambda: engine.batch(questions[:1_000], NOW))
    gc.freeze()  # as the runtime does once a service is up
    lookup = az.ScopedLookup(engine)
    found["list"] = best(lambda: lookup.resources("record", "read", "user:0", NOW, limit=100))
    found["who"] = best(lambda: lookup.subjects("table:0-0-0", "read", "user", NOW))
    print(json.dumps(found), flush=True)


def peer(workspaces: int, _: Path) -> None:
    """Print pycasbin's times as JSON."""
    import casbin  # noqa: PLC0415 # a peer, in this process only

    model = casbin.Model()
    model.load_model_from_text(
        "[request_definition]\nr = sub, obj, act\n[policy_definition]\np = sub, obj, act\n"
        "[role_definition]\ng = _, _\ng2 = _, _\n[policy_effect]\ne = some(where (p.eft == allow))\n"
        "[matchers]\nm = g(r.sub, p.sub) && g2(r.obj, p.obj) && r.act == p.act\n"
    )
    enforcer = casbin.Enforcer(model)
    enforcer.add_policies([[each.subject, each.resource, "read"] for each in bindings(workspaces, PEERS_BINDINGS)])
    chance = random.Random(8)
    users = {f"user:{number}" for number in range(1_000)}
    enforcer.add_grouping_policies(
        [[each.subject, f"{each.object}#member"] for each in memberships() if each.subject in users]
    )
    questions = [(f"user:{chance.randrange(1_000)}", some_resource(chance, workspaces, 3), "read") for _ in range(100)]
    above = {child: parent for child, _, parent in links(workspaces)}
    pairs: dict[tuple[str, str], None] = {}
    for question in questions:
        child = question[1]
        while child in above:
            pairs[child, above[child]] = None
            child = above[child]
    enforcer.add_named_grouping_policies("g2", [list(each) for each in pairs])
    print(json.dumps({"peer": times(enforcer.enforce, questions)}), flush=True)


def times(answer: Callable[..., object], questions: Sequence[tuple[Any, ...]]) -> tuple[float, float]:
    """The 50th and 99th percentile of single calls, in microseconds."""
    clock, spent = time.perf_counter_ns, list[float]()
    for each in questions:
        begun = clock()
        answer(*each)
        spent.append((clock() - begun) / 1e3)
    return percentile(spent, 0.5), percentile(spent, 0.99)


def best(answer: Callable[[], object], rounds: int = 5) -> float:
    """The median of some rounds behind a first one, in milliseconds."""
    spent = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        answer()
        spent.append((time.perf_counter() - begun) * 1e3)
    return percentile(spent[1:], 0.5)


def resident() -> float:
    """Memory of this process now, in MB."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6


if __name__ == "__main__":
    step, size, target = sys.argv[1:]
    {"build": build, "load": load, "peer": peer}[step](1 if size == "quick" else WORKSPACES, Path(target))
