"""What the connected clients have made of what is served to them."""

import dataclasses
from collections.abc import Iterable

from pyairtable_operator.xds.ads import Client
from pyairtable_operator.xds.responses import Responses
from pyairtable_operator.xds.session import Subscription


@dataclasses.dataclass(slots=True)
class Tally:
    """Clients that subscribe to one service, that hold what is served now, and that refused it.

    `first_sent` and `last_settled` are seconds since the epoch, 0 when nothing was sent.
    """

    subscribed: int = 0
    acknowledged: int = 0
    refused: int = 0
    refusal: str = ""
    first_sent: float = 0.0
    last_settled: float = 0.0


def tallies(responses: Responses, clients: Iterable[Client]) -> dict[str, Tally]:
    """Return a tally for each canonical name that clients subscribe to."""
    result: dict[str, Tally] = {}
    for client in clients:
        for name, subscriptions in _by_service(responses, client).items():
            _count(result.setdefault(name, Tally()), subscriptions)
    return result


def services_of(responses: Responses, client: Client) -> frozenset[str]:
    """Return the canonical names of the services that a client subscribes to."""
    return frozenset(_by_service(responses, client))


def _by_service(responses: Responses, client: Client) -> dict[str, list[tuple[Subscription, bool]]]:
    """Give the client's subscriptions that touch each service, with whether they are up to date."""
    namespace = client.session.node.namespace
    result: dict[str, list[tuple[Subscription, bool]]] = {}
    for kind, subscription in client.session.subscriptions.items():
        current = responses.view(kind, subscription.names, namespace).version == subscription.acked_version
        for name in subscription.names:
            if (entry := responses.snapshot.lookup(name, namespace)) is not None:
                result.setdefault(entry.service.canonical_name, []).append((subscription, current))
    return result


def _count(tally: Tally, subscriptions: list[tuple[Subscription, bool]]) -> None:
    refusals = [found.rejection.message for found, _ in subscriptions if found.rejection is not None]
    tally.subscribed += 1
    if refusals:
        tally.refused += 1
        tally.refusal = refusals[-1]
    elif all(current for _, current in subscriptions):
        tally.acknowledged += 1
        for found, _ in subscriptions:
            if found.sent_at:
                tally.first_sent = min(tally.first_sent or found.sent_at, found.sent_at)
                tally.last_settled = max(tally.last_settled, found.settled_at)
