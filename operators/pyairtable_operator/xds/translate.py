"""From a service of the model to the four xDS resources that gRPC needs to call it. Pure.

Each service has one RouteConfiguration, Cluster and ClusterLoadAssignment under its canonical name, and a Listener
under each name that a client may use for it. What C-core refuses or drops in silence shapes every choice here; the
rules are in ARCHITECTURE.md, and `validate` checks that they were kept.

No timeouts are sent: C-core cuts them by one to two seconds (https://github.com/grpc/grpc/issues/34547).
"""

import dataclasses
import itertools
import operator

from envoy.config.cluster.v3 import circuit_breaker_pb2, cluster_pb2, outlier_detection_pb2
from envoy.config.core.v3 import address_pb2, base_pb2, config_source_pb2, extension_pb2, health_check_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.round_robin.v3 import round_robin_pb2
from envoy.extensions.load_balancing_policies.wrr_locality.v3 import wrr_locality_pb2
from google.protobuf import any_pb2, duration_pb2, message, wrappers_pb2

from pyairtable_operator import model

ADS = config_source_pb2.ConfigSource(
    ads=config_source_pb2.AggregatedConfigSource(), resource_api_version=config_source_pb2.ApiVersion.V3
)

_HEALTH = {
    model.Health.HEALTHY: health_check_pb2.HealthStatus.HEALTHY,
    model.Health.DRAINING: health_check_pb2.HealthStatus.DRAINING,
    model.Health.UNHEALTHY: health_check_pb2.HealthStatus.UNHEALTHY,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceResources:
    """What one service becomes. The listener of the short name differs from the other in its name only."""

    listener: listener_pb2.Listener
    short_listener: listener_pb2.Listener
    route: route_pb2.RouteConfiguration
    cluster: cluster_pb2.Cluster
    assignment: endpoint_pb2.ClusterLoadAssignment


def translate(service: model.Service) -> ServiceResources:
    """Return the service's resources, unchecked."""
    name = service.canonical_name
    return ServiceResources(
        listener=listener(name, route_name=name),
        short_listener=listener(service.name, route_name=name),
        route=route(name, service.policy.retry),
        cluster=cluster(name, service.policy),
        assignment=assignment(name, service.endpoints),
    )


def listener(name: str, *, route_name: str) -> listener_pb2.Listener:
    """Return the listener that sends every call to a name through a route configuration."""
    rds = http_connection_manager_pb2.Rds(route_config_name=route_name, config_source=ADS)
    return _api_listener(name, http_connection_manager_pb2.HttpConnectionManager(rds=rds))


def absent_listener(name: str) -> listener_pb2.Listener:
    """Return the listener of a name that no service has: calls fail at once, with UNAVAILABLE.

    Leaving the name out of an answer would say the same, but a client that never had it then waits for 15 seconds
    (gRFC A88 says so in the answer itself; C-core keeps that behind an experiment).
    """
    return _api_listener(name, http_connection_manager_pb2.HttpConnectionManager(route_config=absent_route(name)))


def absent_route(name: str) -> route_pb2.RouteConfiguration:
    """Return routes that match no call."""
    return route_pb2.RouteConfiguration(name=name)


def route(name: str, retry: model.RetryPolicy) -> route_pb2.RouteConfiguration:
    """Return the routes of a service: all of its calls go to its one cluster.

    The domain is `*` because clients come by the canonical and by the short name.
    """
    action = route_components_pb2.RouteAction(cluster=name)
    if retry.attempts > 1 and retry.codes:
        action.retry_policy.CopyFrom(_retry_policy(retry))
    everything = route_components_pb2.RouteMatch(prefix="")
    host = route_components_pb2.VirtualHost(
        name=name, domains=["*"], routes=[route_components_pb2.Route(match=everything, route=action)]
    )
    return route_pb2.RouteConfiguration(name=name, virtual_hosts=[host])


def cluster(name: str, policy: model.TrafficPolicy) -> cluster_pb2.Cluster:
    """Return the cluster of a service, whose endpoints come by EDS on the same stream."""
    limit = circuit_breaker_pb2.CircuitBreakers.Thresholds(
        priority=base_pb2.RoutingPriority.DEFAULT,
        max_requests=wrappers_pb2.UInt32Value(value=policy.max_concurrent_requests),
    )
    result = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.DiscoveryType.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=ADS, service_name=name),
        load_balancing_policy=_load_balancing(policy.load_balancing),
        circuit_breakers=circuit_breaker_pb2.CircuitBreakers(thresholds=[limit]),
    )
    if policy.outlier_detection is not None:
        result.outlier_detection.CopyFrom(_outlier_detection(policy.outlier_detection))
    return result


def assignment(name: str, endpoints: tuple[model.Endpoint, ...]) -> endpoint_pb2.ClusterLoadAssignment:
    """Return the endpoints of a service, one locality for each zone, in an order that only depends on the content.

    A locality's weight is the weight of its healthy endpoints: round robin is then fair between endpoints of
    different zones, as C-core looks at no weights inside a locality.
    """
    used = [endpoint for endpoint in endpoints if endpoint.health is not model.Health.UNHEALTHY]
    by_zone = sorted(used, key=lambda endpoint: (endpoint.zone, endpoint.address, endpoint.port))
    localities = [
        _locality(zone, list(members)) for zone, members in itertools.groupby(by_zone, key=operator.attrgetter("zone"))
    ]
    return endpoint_pb2.ClusterLoadAssignment(cluster_name=name, endpoints=localities)


def pack(resource: message.Message) -> any_pb2.Any:
    """Return the resource as an Any whose bytes are the same for the same content, in every process."""
    result = any_pb2.Any()
    result.Pack(resource, deterministic=True)
    return result


def _api_listener(name: str, connections: http_connection_manager_pb2.HttpConnectionManager) -> listener_pb2.Listener:
    connections.http_filters.append(
        http_connection_manager_pb2.HttpFilter(name="router", typed_config=pack(router_pb2.Router()))
    )
    return listener_pb2.Listener(name=name, api_listener=api_listener_pb2.ApiListener(api_listener=pack(connections)))


def _retry_policy(retry: model.RetryPolicy) -> route_components_pb2.RetryPolicy:
    return route_components_pb2.RetryPolicy(
        retry_on=",".join(code.value.lower().replace("_", "-") for code in retry.codes),
        num_retries=wrappers_pb2.UInt32Value(value=retry.attempts - 1),
        retry_back_off=route_components_pb2.RetryPolicy.RetryBackOff(
            base_interval=_duration(retry.initial_backoff), max_interval=_duration(retry.max_backoff)
        ),
    )


def _load_balancing(choice: model.LoadBalancing) -> cluster_pb2.LoadBalancingPolicy:
    # Clients take the first policy of a list that they know; LEAST_REQUEST alone makes C-core refuse the cluster.
    picking: list[message.Message] = [round_robin_pb2.RoundRobin()]
    if choice is model.LoadBalancing.LEAST_REQUEST:
        picking.insert(0, least_request_pb2.LeastRequest())
    by_locality = wrr_locality_pb2.WrrLocality(endpoint_picking_policy=_policies(*picking))
    return _policies(by_locality)


def _policies(*configs: message.Message) -> cluster_pb2.LoadBalancingPolicy:
    return cluster_pb2.LoadBalancingPolicy(
        policies=[
            cluster_pb2.LoadBalancingPolicy.Policy(
                typed_extension_config=extension_pb2.TypedExtensionConfig(
                    name=config.DESCRIPTOR.name, typed_config=pack(config)
                )
            )
            for config in configs
        ]
    )


def _outlier_detection(settings: model.OutlierDetection) -> outlier_detection_pb2.OutlierDetection:
    return outlier_detection_pb2.OutlierDetection(
        interval=_duration(settings.interval),
        base_ejection_time=_duration(settings.base_ejection_time),
        max_ejection_percent=wrappers_pb2.UInt32Value(value=settings.max_ejection_percent),
        # 0 switches Envoy's and gRPC's default off: success rate compares hosts that few services have enough of.
        enforcing_success_rate=wrappers_pb2.UInt32Value(value=0),
        failure_percentage_threshold=wrappers_pb2.UInt32Value(value=settings.failure_percentage),
        enforcing_failure_percentage=wrappers_pb2.UInt32Value(value=100),
        failure_percentage_minimum_hosts=wrappers_pb2.UInt32Value(value=settings.minimum_hosts),
        failure_percentage_request_volume=wrappers_pb2.UInt32Value(value=settings.request_volume),
    )


def _locality(zone: str, members: list[model.Endpoint]) -> endpoint_components_pb2.LocalityLbEndpoints:
    healthy = sum(member.weight for member in members if member.health is model.Health.HEALTHY)
    return endpoint_components_pb2.LocalityLbEndpoints(
        locality=base_pb2.Locality(zone=zone),
        load_balancing_weight=wrappers_pb2.UInt32Value(value=max(healthy, 1)),
        lb_endpoints=[_endpoint(member) for member in members],
    )


def _endpoint(member: model.Endpoint) -> endpoint_components_pb2.LbEndpoint:
    socket_address = address_pb2.SocketAddress(address=member.address, port_value=member.port)
    return endpoint_components_pb2.LbEndpoint(
        endpoint=endpoint_components_pb2.Endpoint(address=address_pb2.Address(socket_address=socket_address)),
        health_status=_HEALTH[member.health],
        load_balancing_weight=wrappers_pb2.UInt32Value(value=member.weight),
    )


def _duration(seconds: float) -> duration_pb2.Duration:
    result = duration_pb2.Duration()
    result.FromNanoseconds(round(seconds * 1e9))
    return result
