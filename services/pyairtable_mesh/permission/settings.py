"""What can be set about the permission service, beside what every service has."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from pyairtable_mesh.runtime.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PermissionSettings(Settings):
    """The settings of the permission service."""

    first_administrator_code_file: str = ""
    """File with the one-time code for ClaimOwnership, 22 to 128 letters, digits, ``-`` and ``_``, read at each claim;
    empty: nobody can claim a tenant."""
    history_seconds: Annotated[float, Meta(ge=60, le=7 * 86_400)] = 3_600.0
    """How long the states of the past can be asked about, and a stream be resumed."""
    history_changes: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 1_000_000
    """How many changes of a tenant are kept for that at most."""
    engine_facts: Annotated[int, Meta(ge=10_000, le=1_000_000_000)] = 5_000_000
    """Relationships, bindings and names that are held in memory; about 150 bytes each."""
