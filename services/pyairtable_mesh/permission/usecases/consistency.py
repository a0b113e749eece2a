"""Consistency tokens: which state of the data a read must see, and which one an answer has seen."""

from dataclasses import dataclass

from pyairtable_mesh.runtime.errors import InvalidArgument, OutOfRange, Unavailable
from pyairtable_mesh.runtime.pagination import SealBrokenError, Sealer

_KIND = "revision"


@dataclass(frozen=True, slots=True)
class Consistency:
    """What a read must see: the present, which is at least as fresh as `token`, or exactly the token's state.

    Every read is from the database, so minimal latency and full consistency are the same here.
    """

    token: str = ""
    exact: bool = False


NOW = Consistency()


class Tokens:
    """Seals revisions: a token stands for one state of one tenant's data, and cannot be made by anybody else."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def of(self, tenant_id: str, revision: int) -> str:
        """The token of a state."""
        return self._sealer.seal(_KIND, b"%x" % revision, tenant_id)

    def require(self, consistency: Consistency, tenant_id: str, revision: int) -> None:
        """Whether a state is one that a read may see.

        InvalidArgument INVALID_CONSISTENCY_TOKEN for a token that is not ours or another tenant's; OutOfRange
        REVISION_EXPIRED when an older state is asked for; Unavailable when the data are behind the token.
        """
        if not consistency.token:
            return
        field = "consistency.at_exact_snapshot" if consistency.exact else "consistency.at_least_as_fresh"
        try:
            wanted = int(self._sealer.open(_KIND, consistency.token, tenant_id), 16)
        except SealBrokenError:
            words = "is not a consistency token of this tenant"
            raise InvalidArgument.of_field(field, words, reason="INVALID_CONSISTENCY_TOKEN") from None
        if wanted > revision:
            raise Unavailable("this replica has not seen that state yet", reason="DEPENDENCY_UNAVAILABLE")
        if consistency.exact and wanted < revision:
            oldest = {"oldest_token": self.of(tenant_id, revision)}
            raise OutOfRange("that state is not kept any longer", reason="REVISION_EXPIRED", metadata=oldest)
