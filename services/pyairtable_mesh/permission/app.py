"""The permission service, put together."""

from datetime import timedelta

from pyairtable.permission.v1 import permission_pb2_grpc
from pyairtable_mesh.permission import claim_code, messages
from pyairtable_mesh.permission.authorizer import LocalAuthorizer
from pyairtable_mesh.permission.engines import Engines
from pyairtable_mesh.permission.evaluator import NaiveEvaluator
from pyairtable_mesh.permission.maintenance import Maintenance
from pyairtable_mesh.permission.platform import Loader
from pyairtable_mesh.permission.report import Report
from pyairtable_mesh.permission.servicer import ACCESS, PermissionServicer
from pyairtable_mesh.permission.settings import PermissionSettings
from pyairtable_mesh.permission.spaces import SpaceLoader
from pyairtable_mesh.permission.usecases.authority import Authority
from pyairtable_mesh.permission.usecases.changes import Acts
from pyairtable_mesh.permission.usecases.checks import Checks
from pyairtable_mesh.permission.usecases.consistency import States, Tokens
from pyairtable_mesh.permission.usecases.lookups import Lookups
from pyairtable_mesh.permission.usecases.ownership import Ownership
from pyairtable_mesh.permission.usecases.relationships import Relationships
from pyairtable_mesh.permission.usecases.roles import Roles
from pyairtable_mesh.permission.usecases.schemas import Schemas
from pyairtable_mesh.permission.usecases.space_questions import SpaceQuestions
from pyairtable_mesh.permission.usecases.spaces import Spaces
from pyairtable_mesh.permission.usecases.watching import Watching
from pyairtable_mesh.runtime.decisions import DecisionLog
from pyairtable_mesh.runtime.service import Parts, Runtime, Service


def build(runtime: Runtime[PermissionSettings]) -> Parts:
    """The servicer on the service's database, which is also what authorizes calls to it."""
    tokens = Tokens(runtime.sealer)
    most = runtime.settings.engine_facts
    loader = Loader(runtime.database, most)
    engines = Engines(runtime.database, loader, most)
    authority = Authority(NaiveEvaluator(), engines)
    states = States(engines, tokens)
    log = DecisionLog(runtime.database, runtime.clock, runtime.settings.audit_allowed_ratio)
    log.observe(runtime.meter)
    acts = Acts(runtime.database, tokens, messages.changed, engines, log)
    checks = Checks(states, tokens, runtime.clock, log)
    lookups = Lookups(states, tokens, runtime.clock, log)
    watching = Watching(runtime.database, engines, loader, authority, tokens, runtime.leaving, log)
    relationships = Relationships(runtime.database, acts, authority, tokens, runtime.clock)
    roles = Roles(runtime.database, acts, authority, tokens, runtime.clock)
    models = Engines(runtime.database, SpaceLoader(runtime.database, most), most)
    Report({"platform": engines, "model": models}).observe(runtime.meter)
    questions = SpaceQuestions(States(models, tokens), states, tokens, runtime.clock, log)
    spaces = Spaces(runtime.database, models, acts, authority, tokens, runtime.clock)
    schemas = Schemas(runtime.database, authority, runtime.clock, log, most)
    ownership = Ownership(runtime.database, acts, claim_code.reader(runtime.settings.first_administrator_code_file))
    servicer = PermissionServicer(
        checks, lookups, watching, relationships, roles, ownership, questions, spaces, schemas, runtime.sealer
    )
    window = timedelta(seconds=runtime.settings.history_seconds)
    maintenance = Maintenance(runtime.database, window, runtime.settings.history_changes, runtime.clock)
    registration = (permission_pb2_grpc.add_PermissionServiceServicer_to_server, servicer)
    return Parts(
        servicers=[registration],
        authorizer=LocalAuthorizer(checks),
        background=[engines.follow, models.follow, maintenance.run, log.run],
        health={"changelog": engines.check, "model-changelog": models.check},
    )


service = Service(
    name="permission",
    settings=PermissionSettings,
    build=build,
    access={"pyairtable.permission.v1.PermissionService": ACCESS},
    migrations="pyairtable_mesh.permission.migrations",
    subscribers=("audit",),
)
