"""Calls a second over `xds:///echo` against a direct channel, 32 in flight.

One backend in a process of its own serves both; each client is a process of its own, and the control plane is a real
one. Rounds alternate between the two, and so does the order in a round.
"""

from collections.abc import Iterator

from bench import echo, load
from bench.figures import Figure, Goal
from bench.measure import Process, middle, process
from bench.mesh import mesh

IN_FLIGHT = 32
CALLS, ROUNDS = 9_600, 12
QUICK_CALLS, QUICK_ROUNDS = 320, 1


def measure(*, quick: bool) -> Iterator[Figure]:
    """Calls a second both ways, their ratio, and what a call costs each client."""
    calls, rounds = (QUICK_CALLS, QUICK_ROUNDS) if quick else (CALLS, ROUNDS)
    with process("-m", "bench.echo") as backend:
        port = int(backend.line())
        with (
            mesh([port]) as running,
            process(*load.arguments(f"127.0.0.1:{port}", echo.METHOD, IN_FLIGHT)) as direct,
            process(
                *load.arguments("xds:///echo", echo.METHOD, IN_FLIGHT), environment=running.bootstrap("load")
            ) as meshed,
        ):
            clients = {"direct": direct, "xds": meshed}
            rates, spent = _rounds(clients, calls, rounds)
    yield Figure("direct channel, 32 in flight", middle(rates["direct"]), "calls/s")
    yield Figure("xds:///, 32 in flight", middle(rates["xds"]), "calls/s")
    yield Figure("client CPU of a call, direct channel", middle(spent["direct"]), "us")
    yield Figure("client CPU of a call, xds:///", middle(spent["xds"]), "us")
    ratio = middle([one / other for one, other in zip(rates["xds"], rates["direct"], strict=True)])
    yield Figure("xds:/// against a direct channel, calls/s", ratio, goal=Goal("at least", 0.95))


def _rounds(
    clients: dict[str, Process], calls: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Calls a second and microseconds of the client's CPU for a call, by client and round."""
    rates: dict[str, list[float]] = {name: [] for name in clients}
    spent: dict[str, list[float]] = {name: [] for name in clients}
    for client in clients.values():
        client.line()
        load.seconds_of(client, calls)
    for number in range(rounds):
        for name, client in sorted(clients.items(), reverse=bool(number % 2)):
            before = client.cpu_seconds()
            rates[name].append(calls / load.seconds_of(client, calls))
            spent[name].append((client.cpu_seconds() - before) / calls * 1e6)
    return rates, spent
