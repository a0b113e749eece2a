"""The user service, put together."""

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable.user.v1 import user_pb2_grpc
from pyairtable_mesh.runtime.service import Parts, Runtime, Service
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.user.access import ACCESS
from pyairtable_mesh.user.memberships import PermissionMemberships
from pyairtable_mesh.user.servicer import UserServicer
from pyairtable_mesh.user.store import DatabaseStore
from pyairtable_mesh.user.usecases.groups import Groups
from pyairtable_mesh.user.usecases.users import Users


def build(runtime: Runtime[Settings]) -> Parts:
    """The servicer on the service's database, with group members at the permission service."""
    store = DatabaseStore(runtime.database)
    memberships = PermissionMemberships(runtime.peers.stub(permission_pb2_grpc.PermissionServiceStub, "permission"))
    servicer = UserServicer(Users(store), Groups(store, memberships), runtime.sealer)
    return Parts(servicers=[(user_pb2_grpc.add_UserServiceServicer_to_server, servicer)])


service = Service(
    name="user",
    settings=Settings,
    build=build,
    access={"pyairtable.user.v1.UserService": ACCESS},
    migrations="pyairtable_mesh.user.migrations",
    subscribers=("audit",),
)
