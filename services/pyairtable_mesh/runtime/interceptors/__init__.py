"""The stack that every RPC of every service goes through, in this order."""

from pyairtable_mesh.runtime.authorizer import Authorizer
from pyairtable_mesh.runtime.interceptors import (
    admission,
    authentication,
    authorization,
    context,
    errors,
    replay,
    telemetry,
    validation,
)
from pyairtable_mesh.runtime.interceptors.call import Interceptor
from pyairtable_mesh.runtime.settings import Settings
from pyairtable_mesh.runtime.telemetry import Telemetry
from pyairtable_mesh.runtime.tokens import Authenticator
from pyairtable_mesh.runtime.validation import SchemaValidator


def stack(
    settings: Settings,
    observer: Telemetry,
    authenticator: Authenticator,
    authorizer: Authorizer,
    validator: SchemaValidator,
) -> tuple[Interceptor, ...]:
    """Outermost first."""
    return (
        context.gate,
        telemetry.observe(observer, spans=settings.telemetry_grpc == "lean"),
        errors.intercept,
        admission.limit(
            settings.max_concurrent_calls, settings.max_calls_per_second, settings.default_deadline_seconds
        ),
        authentication.authenticate(authenticator),
        authorization.shape,
        authorization.authorize(authorizer, settings.namespace),
        validation.validate(validator),
        replay.replay,
        authentication.outlive(authenticator),
    )
