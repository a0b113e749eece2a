"""Calls a second over `xds:///echo` against a direct channel, 32 in flight.

One backend in a process of its own serves both; each client is a process of its own, and the control plane is a real
one. Rounds alternate between the two, and so does the order in a round.
"""

from collections.abc import Iterator

from bench import echo, load
from bench.figures import Figure, Goal
from bench.measure import middle, middle_ratio, process
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
            contenders = {"direct": load.Contender(direct, direct), "xds": load.Contender(meshed, meshed)}
            samples = load.alternate(contenders, calls, rounds)
    one, other = samples["direct"], samples["xds"]
    yield Figure("direct channel, 32 in flight", middle(one.rates), "calls/s")
    yield Figure("xds:///, 32 in flight", middle(other.rates), "calls/s")
    yield Figure("client CPU of a call, direct channel", middle(one.microseconds), "us")
    yield Figure("client CPU of a call, xds:///", middle(other.microseconds), "us")
    ratio = middle_ratio(other.rates, one.rates)
    yield Figure("xds:/// against a direct channel, calls/s", ratio, goal=Goal("at least", 0.95))
