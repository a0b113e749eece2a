"""What can be set about the permission service, beside what every service has."""

from dataclasses import dataclass

from pyairtable_mesh.runtime.settings import Settings


@dataclass(frozen=True, kw_only=True)
class PermissionSettings(Settings):
    """The settings of the permission service."""

    first_administrator_code_file: str = ""
    """File with the one-time code for ClaimOwnership, 22 to 128 letters, digits, ``-`` and ``_``, read at each claim;
    empty: nobody can claim a tenant."""
