"""Answers the authorization interceptor in process, while what is held is fresh, and asks the permission service else.

What is answered here is only ever "allowed". Whatever is not, the server is asked about before the caller hears of it,
by a state at least as fresh as ours: who was granted something a moment ago is not turned away because the news is
still on its way, and the audit log has every denial, from the server. That costs a call on denials alone. Allowed
answers are audited here, by the same share as the server's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from pyairtable_mesh.runtime.access import Question
from pyairtable_mesh.runtime.authorization.facts import Circumstances
from pyairtable_mesh.runtime.authorizer import Answer, PeerAuthorizer
from pyairtable_mesh.runtime.context import RequestContext
from pyairtable_mesh.runtime.decisions import DecisionLog, recorded
from pyairtable_mesh.runtime.errors import MeshError
from pyairtable_mesh.runtime.pagination import SealBrokenError, Sealer
from pyairtable_mesh.runtime.replica.follower import Follower
from pyairtable_mesh.runtime.replica.replicas import Replicas

HERE = "replica"
"""In `ReplicaAuthorizer.answers`, what was answered in process."""
_WAIT_SECONDS = 0.25
"""How long the stream is waited for, where a caller has seen more than it has brought."""
_MAX_TOKEN = 1024


class ReplicaAuthorizer:
    """`runtime.Authorizer` over the replicas; `log` takes the share of allowed answers that is audited."""

    def __init__(
        self,
        replicas: Replicas,
        server: PeerAuthorizer,
        log: DecisionLog | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._replicas = replicas
        self._server = server
        self._log = log
        self._clock = clock
        self.answers: Counter[str] = Counter()
        """How many calls were answered in process (`HERE`) or, by the reason why, by the server."""

    async def check(self, caller: RequestContext, questions: Sequence[Question]) -> Sequence[Answer]:
        """One answer per question; `Unavailable` where neither a replica nor the server can tell."""
        follower = self._replicas.of(caller.tenant_id)
        reason = self._unfit(follower, questions)
        if not reason and caller.consistency_token:
            reason = await self._behind(follower, caller) or self._unfit(follower, questions)
        if not reason and follower is not None:
            reason = self._doubt(follower, caller, questions)
        if not reason:
            self.answers[HERE] += 1
            return [True] * len(questions)
        self.answers[reason] += 1
        return await self._ask(follower, caller, questions)

    def _unfit(self, follower: Follower | None, questions: Sequence[Question]) -> str:
        """Why a replica cannot answer now; empty where it can."""
        if follower is None:
            return "no_room"
        if follower.copy.engine is None:
            return "too_large" if follower.refused else "loading"
        if not follower.is_fresh:
            return "stale"
        if follower.is_skewed:
            return "skewed"
        types = self._replicas.wanted.types
        if types and any(resource.partition(":")[0] not in types for resource, _ in questions):
            return "type_not_held"
        return ""

    async def _behind(self, follower: Follower | None, caller: RequestContext) -> str:
        """Why the state of the caller's token cannot be answered from; empty once it is held.

        The revision is believed unverified, as the key is the permission service's: a forged one makes its maker wait,
        and shows nothing older than no token would.
        """
        wanted = claimed_revision(caller.consistency_token)
        if wanted is None or follower is None:
            return "token_unknown"
        seconds = min(_WAIT_SECONDS, caller.remaining())
        return "" if await follower.copy.reaches(wanted, seconds) else "token_ahead"

    def _doubt(self, follower: Follower, caller: RequestContext, questions: Sequence[Question]) -> str:
        """Why "allowed" cannot be said; empty where every question was answered with it."""
        engine = follower.copy.engine
        if engine is None:
            return "loading"
        subject, given = caller.actor.subject, Circumstances(self._clock().timestamp())
        asked = [(resource, verb, subject) for resource, verb in questions]
        try:
            decisions = [engine.check(each, given) for each in asked]
        except MeshError:
            return "undecided"
        if not all(each.allowed for each in decisions):
            return "denied"
        if (log := self._log) is not None:
            answered = zip(asked, decisions, strict=True)
            log.take(caller, [recorded(engine, *each, given) for each in answered if log.wants(allowed=True)])
        return ""

    async def _ask(
        self, follower: Follower | None, caller: RequestContext, questions: Sequence[Question]
    ) -> Sequence[Answer]:
        held = follower.copy.revision if follower is not None else 0
        token = caller.consistency_token
        if follower is not None and held and (not token or (claimed_revision(token) or held) < held):
            token = follower.copy.checkpoint
        allowed, seen = await self._server.ask(questions, token)
        if follower is not None:
            follower.newest = max(follower.newest, claimed_revision(seen) or 0)
        return allowed


def claimed_revision(token: str) -> int | None:
    """The revision that a consistency token claims; None for what is none."""
    if len(token) > _MAX_TOKEN:
        return None
    try:
        return int(Sealer.claimed(token).partition(b".")[0], 16)
    except (SealBrokenError, ValueError):
        return None
