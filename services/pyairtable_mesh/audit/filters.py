"""What ListAuditEvents and TailAuditEvents filter by, over the language of `runtime/filters.py`."""

from collections.abc import Mapping

from pyairtable_mesh.audit.domain import Outcome
from pyairtable_mesh.runtime.filters import TEXT, TIME, Kind

FIELDS: Mapping[str, Kind] = {
    "event_time": TIME,
    "actor.subject": TEXT,
    "actor.workload": TEXT,
    "action": TEXT,
    "resource": TEXT,
    "outcome": Kind("one of SUCCEEDED, DENIED, FAILED", Outcome),
    "correlation_id": TEXT,
    "trace_id": TEXT,
}
