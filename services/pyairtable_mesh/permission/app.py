"""The permission service, put together."""

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission import claim_code, messages
from pyairtable_mesh.permission.authorizer import LocalAuthorizer
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.servicer import ACCESS, PermissionServicer
from pyairtable_mesh.permission.settings import PermissionSettings
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.changes import Acts
from pyairtable_mesh.permission.usecases.checks import Checks
from pyairtable_mesh.permission.usecases.consistency import Tokens
from pyairtable_mesh.permission.usecases.ownership import Ownership
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.roles import Roles
from pyairtable_mesh.runtime.service import Parts, Runtime, Service


def build(runtime: Runtime[PermissionSettings]) -> Parts:
    """The servicer on the service's database, which is also what authorizes calls to it."""
    tokens = Tokens(runtime.sealer)
    authority = Authority(NaiveEvaluator())
    acts = Acts(runtime.database, tokens, messages.changed)
    checks = Checks(runtime.database, authority, tokens, runtime.clock)
    relationships = Relationships(runtime.database, acts, authority, tokens, runtime.clock)
    roles = Roles(runtime.database, acts, authority, tokens, runtime.clock)
    ownership = Ownership(runtime.database, acts, claim_code.reader(runtime.settings.first_administrator_code_file))
    servicer = PermissionServicer(checks, relationships, roles, ownership, runtime.sealer)
    registration = (permission_pb2_grpc.add_PermissionServiceServicer_to_server, servicer)
    return Parts(servicers=[registration], authorizer=LocalAuthorizer(checks))


service = Service(
    name="permission",
    settings=PermissionSettings,
    build=build,
    access={"pyairtable.permission.v1.PermissionService": ACCESS},
    migrations="pyairtable_mesh.permission.migrations",
    subscribers=("audit",),
)
