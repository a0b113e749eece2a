"""What the schemas of requests let through, where a request can reach out of its tenant or of its bounds."""

from collections.abc import Mapping
from typing import Any

import protovalidate
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message

from pyairtable.file.v1 import file_pb2, uploads_pb2
from pyairtable.gateway.v1 import gateway_pb2, rate_limits_pb2, routes_pb2
from pyairtable.notification.v1 import notification_pb2, preferences_pb2, templates_pb2
from pyairtable.webhook.v1 import deliveries_pb2, webhook_pb2

ID = "0" * 26
FILE = f"files/fil{ID}"
ENDPOINT = f"webhooks/ach{ID}"
TOLD = {"recipient": f"users/usr{ID}", "inline": {"title": "Done"}}
TARGET = {"method": "pyairtable.user.v1.UserService/GetUser"}
NINE_AND_FIVE = {"startTime": {"hours": 21}, "endTime": {"hours": 5}}

Fields = Mapping[str, Any]
Table = tuple[type[Message], str, list[Fields], list[Fields]]


def upload(**target: Any) -> Fields:
    return {"header": target}


def told(**more: Any) -> Fields:
    return TOLD | more


def preferring(**more: Any) -> Fields:
    return {"preferences": {"name": f"users/usr{ID}/notificationPreferences", **more}}


def route(path: str = "/orders/{id}", **more: Any) -> Fields:
    return {"route": {"match": {"pathTemplate": path}, "target": TARGET, **more}}


def call(path: str = "/v1/me", verb: str = "GET", **more: Any) -> Fields:
    return {"http": {"httpMethod": verb, "path": path, **more}}


def endpoint(uri: str = "https://hooks.example.com/in", **more: Any) -> Fields:
    return {"endpoint": {"uri": uri, "eventTypes": ["file.*"], **more}}


TABLES: list[Table] = [
    (
        file_pb2.UploadFileRequest,
        "one target, and a name that is no path",
        [upload(file={"displayName": "Größe.pdf"}), upload(existingFile=FILE), {"chunk": {"data": "YQ=="}}],
        [{}, upload(), upload(existingFile=""), {"chunk": {}}]
        + [upload(file={"displayName": name}) for name in ("", "a/b", "a\\b", "a\nb")],
    ),
    (
        uploads_pb2.CreateUploadRequest,
        "one target",
        [{"upload": {"existingFile": FILE}}, {"upload": {"file": {"displayName": "a"}, "sizeBytes": 1 << 40}}],
        [{"upload": {}}, {"upload": {"existingFile": FILE, "file": {"displayName": "a"}}}],
    ),
    (
        file_pb2.CreateSignedUrlRequest,
        "up to seven days",
        [{"name": FILE}, {"name": FILE, "ttl": "604800s"}, {"name": f"uploads/upl{ID}"}],
        [{"name": FILE, "ttl": "604801s"}, {"name": FILE, "ttl": "0s"}, {"name": ENDPOINT}],
    ),
    (
        notification_pb2.SendNotificationRequest,
        "links into the product or over https only",
        [told(actionUri=uri) for uri in ("", "/", "/bases/x", "https://example.com/x")],
        [told(actionUri=uri) for uri in ("http://example.com", "//example.com", "/\\example.com", "javascript:x", "x")]
        + [told(scheduleTime="2526-01-01T00:00:00Z"), {"recipient": TOLD["recipient"]}],
    ),
    (
        templates_pb2.PreviewTemplateRequest,
        "what is stored, or a draft",
        [{"stored": {"key": "base.shared"}}, {"draft": {"key": "base.shared"}}],
        [{}, {"stored": {}}],
    ),
    (
        preferences_pb2.UpdatePreferencesRequest,
        "hours that are some",
        [preferring(), preferring(quietHours=NINE_AND_FIVE)],
        [
            {"preferences": {}},
            preferring(quietHours=NINE_AND_FIVE | {"startTime": {"hours": 5}}),
            preferring(quietHours=NINE_AND_FIVE | {"endTime": {"hours": 24}}),
        ],
    ),
    (
        routes_pb2.CreateRouteRequest,
        "no path of the product's, and no credentials for everybody",
        [route(), route("/v1x"), route(corsPolicy={"allowedOrigins": ["*"]})],
        [
            *(route(path) for path in ("", "/v1", "/v1/users", "orders")),
            route(corsPolicy={"allowedOrigins": ["*"], "allowCredentials": True}),
            route(retryPolicy={"maxAttempts": 6}),
            route(responseHeaders={"set-cookie": "a=b"}),
        ],
    ),
    (
        gateway_pb2.ProxyRequest,
        "no credentials or broken headers in the message",
        [call(), call(headers={"accept": "application/json"}), {"rpc": TARGET}],
        [{}, call(verb="TRACE"), call("v1/me"), call(headers={"authorization": "x"}), call(headers={"a": "b\r\nc: d"})],
    ),
    (
        rate_limits_pb2.ShouldRateLimitRequest,
        "something to count",
        [{"domain": "edge", "descriptors": [{"entries": [{"key": "remote_address", "value": "192.0.2.1"}]}]}],
        [{"domain": "edge"}, {"domain": "edge", "descriptors": [{}]}],
    ),
    (
        webhook_pb2.CreateEndpointRequest,
        "https without credentials, and headers that are not ours",
        [endpoint(), endpoint("https://a.example:8443?x=1"), endpoint(headers={"x-key": "secret"})],
        [
            endpoint(uri)
            for uri in ("", "http://a.example/", "https://", "https://u:p@a.example/", "https://a.example/#x")
        ]
        + [endpoint(headers={"webhook-id": "1"}), endpoint(eventTypes=[]), endpoint(eventTypes=["*.created"])],
    ),
    (
        webhook_pb2.RotateSecretRequest,
        "both secrets for a week at most",
        [{"name": ENDPOINT}, {"name": ENDPOINT, "overlap": "0s"}, {"name": ENDPOINT, "overlap": "604800s"}],
        [{"name": ENDPOINT, "overlap": "604801s"}, {}],
    ),
    (
        deliveries_pb2.StreamEventsRequest,
        "the events of an endpoint, or of a filter",
        [{}, {"endpoint": ENDPOINT}, {"eventTypes": ["file.*"]}],
        [{"endpoint": ENDPOINT, "eventTypes": ["file.*"]}],
    ),
]


CASES = [
    pytest.param(kind, fields, accepted, id=f"{kind.DESCRIPTOR.name}: {what}: {fields}")
    for kind, what, good, bad in TABLES
    for accepted, group in ((True, good), (False, bad))
    for fields in group
]


@pytest.mark.parametrize(("kind", "fields", "accepted"), CASES)
def test_a_request_is_taken_or_refused(kind: type[Message], fields: dict[str, Any], accepted: bool) -> None:
    violations = protovalidate.collect_violations(ParseDict(fields, kind()))
    assert bool(violations) is not accepted, violations
