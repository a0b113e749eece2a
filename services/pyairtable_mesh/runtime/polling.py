"""Which thread gRPC's core reads a server's connections with: chosen before gRPC is imported, which is when it asks."""

from collections.abc import MutableMapping

VARIABLE = "GRPC_EXPERIMENTS"
CHOICE = "-event_engine_listener"


def choose(environment: MutableMapping[str, str]) -> None:
    """Have a server's connections read by the thread that waits for its calls, and not by a pool of threads beside it:
    each message is handed over once less, which is a tenth of what a small call costs a Python server. Clients keep
    the pool, which reads what the control plane says also where no call is under way. Who has chosen keeps the choice.
    """
    environment.setdefault(VARIABLE, CHOICE)
