"""Audit events to test with."""

from datetime import UTC, datetime

from pyairtable_mesh.audit.domain import Draft, Entry, Outcome, PersonalData

TENANT = "ten" + "1" * 26
OTHER = "ten" + "2" * 26
AT = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


def draft(number: int, tenant_id: str = TENANT, *, email: str = "", **more: object) -> Draft:
    values: dict[str, object] = {
        "event_id": f"evt{number:026}",
        "tenant_id": tenant_id,
        "event_time": AT,
        "subject": "user:usr" + "1" * 26,
        "workload": "",
        "action": "pyairtable.permission.v1.PermissionService/GrantRole",
        "resource": "base:app" + "1" * 26,
        "outcome": Outcome.SUCCEEDED,
        "details": {"role": "roles/owner"},
    }
    entry = Entry(**{**values, **more})  # type: ignore[arg-type]
    return Draft(entry, PersonalData(email=email) if email else None)
