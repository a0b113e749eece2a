"""The audit service, put together."""

from pyairtable.common.v1 import audit_pb2_grpc, events_pb2_grpc
from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.audit.intake import Intake
from pyairtable_mesh.audit.servicer import ACCESS, AuditServicer
from pyairtable_mesh.audit.settings import AuditSettings
from pyairtable_mesh.audit.store import Store
from pyairtable_mesh.audit.usecases import AuditLog
from pyairtable_mesh.runtime.auditing import DECISIONS_TYPE, EVENT_TYPE
from pyairtable_mesh.runtime.authorizer import PeerAuthorizer
from pyairtable_mesh.runtime.consumers import EventConsumer
from pyairtable_mesh.runtime.service import Background, Parts, Runtime, Service


def build(runtime: Runtime[AuditSettings]) -> Parts:
    """The servicer, and a consumer for each service that writes audit events into its outbox."""
    authorizer = PeerAuthorizer(runtime.peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission"))
    audit_log = AuditLog(runtime.database, Store(), authorizer, runtime.leaving)
    intake, kinds = Intake(audit_log, runtime.validator), (EVENT_TYPE, DECISIONS_TYPE)

    def follow(source: str) -> Background:
        stream = runtime.peers.stub(events_pb2_grpc.EventServiceStub, source)
        return EventConsumer(f"audit.{source}", stream, runtime.database, intake, types=kinds).run

    servicer = AuditServicer(audit_log, runtime.sealer, runtime.validator)
    return Parts(
        servicers=[(audit_pb2_grpc.add_AuditServiceServicer_to_server, servicer)],
        background=[follow(source) for source in runtime.settings.sources()],
    )


service = Service(
    name="audit",
    settings=AuditSettings,
    build=build,
    access={"pyairtable.common.v1.AuditService": ACCESS},
    migrations="pyairtable_mesh.audit.migrations",
)
