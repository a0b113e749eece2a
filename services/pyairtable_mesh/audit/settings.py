"""What can be set about the audit service, beside what every service has."""

from dataclasses import dataclass

from pyairtable_mesh.runtime.settings import Settings


@dataclass(frozen=True, kw_only=True)
class AuditSettings(Settings):
    """The settings of the audit service."""

    audit_sources: str = "permission,user"
    """Services whose outboxes are followed, by their mesh names."""

    def sources(self) -> list[str]:
        """The names, one by one."""
        return [name.strip() for name in self.audit_sources.split(",") if name.strip()]
