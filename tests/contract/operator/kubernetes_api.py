"""As much of an API server as the operator talks to, in memory: lists, watches, writes and reviews over HTTP."""

import asyncio
import contextlib
import copy
import itertools
from collections.abc import AsyncGenerator
from typing import Any

from aiohttp import web

Object = dict[str, Any]

_PLURALS = {
    "namespaces": ("", "Namespace"),
    "services": ("", "Service"),
    "pods": ("", "Pod"),
    "endpointslices": ("discovery.k8s.io", "EndpointSlice"),
    "leases": ("coordination.k8s.io", "Lease"),
    "events": ("events.k8s.io", "Event"),
    "trafficpolicies": ("mesh.pyairtable.io", "TrafficPolicy"),
}
_DISCOVERED = ("discovery.k8s.io", "apiextensions.k8s.io")
_POLICIES = "mesh.pyairtable.io"
_AS_ASKED = ["as asked"]


class KubernetesApi:
    """Changed with `put` and `remove`, and `stop` makes it go away. Belongs to one event loop.

    `tokens` are whom a TokenReview names, by token; `rights` are the (user, verb, namespace) that are allowed.
    """

    def __init__(self) -> None:
        self.with_policies = True
        self.tokens: dict[str, Object] = {}
        self.rights: set[tuple[str, str, str]] = set()
        self.reviews: list[Object] = []
        self.audiences: list[str] | None = _AS_ASKED
        self.objects: dict[str, dict[tuple[str, str], Object]] = {plural: {} for plural in _PLURALS}
        self.watches = 0
        self.listings = 0
        self.writes: list[str] = []
        self.refusing = False
        self._held = ""
        self._let_go = asyncio.Event()
        self._versions = itertools.count(1)
        self._compacted = 0
        self._log: list[tuple[int, str, Object]] = []
        self._happened = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Serve, on the same port as before."""
        routes = [
            web.get("/api", self._versions_of_core),
            web.get("/apis", self._groups),
            web.get(f"/apis/{_POLICIES}/v1alpha1", self._policy_kinds),
            web.post("/apis/authentication.k8s.io/v1/tokenreviews", self._review_token),
            web.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", self._review_access),
            web.get("/api/v1", _answer(_resources(""))),
            *(web.get(f"/apis/{group}/v1", _answer(_resources(group))) for group in _DISCOVERED),
        ]
        for base in ("/api/v1", "/apis/{group}/v1", "/apis/{group}/v1alpha1"):
            routes += [
                web.get(base + "/{plural}", self._list),
                web.post(base + "/namespaces/{namespace}/{plural}", self._create),
                web.get(base + "/namespaces/{namespace}/{plural}/{name}", self._read),
                web.put(base + "/namespaces/{namespace}/{plural}/{name}", self._replace),
                web.patch(base + "/namespaces/{namespace}/{plural}/{name}/status", self._patch_status),
            ]
        application = web.Application()
        application.add_routes(routes)
        self._runner = web.AppRunner(application, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Go away: watches break, connections are refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def put(self, plural: str, source: Object) -> None:
        """Create or change an object."""
        found = copy.deepcopy(source)
        metadata = found["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        change = "MODIFIED" if key in self.objects[plural] else "ADDED"
        metadata.setdefault("uid", f"{plural}-{'-'.join(key)}")
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        metadata.setdefault("generation", 1)
        await self._change(plural, change, key, found)

    async def remove(self, plural: str, namespace: str, name: str) -> None:
        """Delete an object."""
        await self._change(plural, "DELETED", (namespace, name), self.objects[plural][namespace, name])

    def hold(self, plural: str) -> None:
        """Answer no listing of a kind before `let_go`."""
        self._held = plural

    def let_go(self) -> None:
        """Answer the listings that were held."""
        self._let_go.set()

    def holder(self) -> str:
        """Who holds the only Lease."""
        [found] = self.objects["leases"].values()
        holder: str = found["spec"]["holderIdentity"]
        return holder

    def forget_changes(self) -> None:
        """Answer 410 to whoever asks for what happened before."""
        self._compacted = next(self._versions)

    async def _change(self, plural: str, change: str, key: tuple[str, str], found: Object) -> None:
        version = next(self._versions)
        found["metadata"]["resourceVersion"] = str(version)
        if change == "DELETED":
            del self.objects[plural][key]
        else:
            self.objects[plural][key] = found
        self._log.append((version, plural, {"type": change, "object": copy.deepcopy(found)}))
        async with self._happened:
            self._happened.notify_all()

    async def _versions_of_core(self, _: web.Request) -> web.Response:
        return _status(403) if self.refusing else web.json_response({"versions": ["v1"]})

    async def _groups(self, _: web.Request) -> web.Response:
        groups = [_group(name) for name in _DISCOVERED]
        if self.with_policies:
            groups.append(_group(_POLICIES, "v1alpha1"))
        return web.json_response({"groups": groups})

    async def _policy_kinds(self, _: web.Request) -> web.Response:
        found = _resources(_POLICIES, "v1alpha1")
        return web.json_response(found) if self.with_policies else _status(404)

    async def _review_token(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        self.reviews.append(spec)
        user = self.tokens.get(spec["token"])
        audiences = spec["audiences"] if self.audiences is _AS_ASKED else self.audiences
        status = {"authenticated": user is not None, "user": user, "audiences": audiences}
        return web.json_response({"kind": "TokenReview", "spec": spec, "status": status}, status=201)

    async def _review_access(self, request: web.Request) -> web.Response:
        spec = (await request.json())["spec"]
        self.reviews.append(spec)
        wanted = spec["resourceAttributes"]
        allowed = (spec["user"], wanted["verb"], wanted.get("namespace", "")) in self.rights
        body = {"kind": "SubjectAccessReview", "spec": spec, "status": {"allowed": allowed}}
        return web.json_response(body, status=201)

    async def _patch_status(self, request: web.Request) -> web.Response:
        plural = request.match_info["plural"]
        found = self.objects[plural].get((request.match_info["namespace"], request.match_info["name"]))
        if found is None:
            return _status(404)
        self.writes.append(f"status {plural}")
        await self.put(plural, {**found, "status": (await request.json())["status"]})
        return web.json_response(found)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        if "watch" in request.query:
            return await self._watch(request, plural)
        if plural == self._held:
            await self._let_go.wait()
        self.listings += 1
        items = list(self.objects.get(plural, {}).values())
        metadata = {"resourceVersion": str(next(self._versions))}
        return web.json_response({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if since < self._compacted:
            await _send(response, {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired"}})
            return response
        self.watches += 1
        try:
            async with contextlib.aclosing(self._events(since)) as events:
                async for kind, event in events:
                    if kind == plural:
                        await _send(response, event)
        finally:
            self.watches -= 1
        return response

    async def _events(self, since: int) -> AsyncGenerator[tuple[str, Object], None]:
        sent = 0
        while True:
            async with self._happened:
                while len(self._log) == sent:
                    await self._happened.wait()
            for version, plural, event in self._log[sent:]:
                if version > since:
                    yield plural, event
            sent = len(self._log)

    async def _read(self, request: web.Request) -> web.Response:
        key = (request.match_info["namespace"], request.match_info["name"])
        found = self.objects[request.match_info["plural"]].get(key)
        return _status(404) if found is None else web.json_response(found)

    async def _create(self, request: web.Request) -> web.Response:
        plural, body = request.match_info["plural"], await request.json()
        body["metadata"]["namespace"] = request.match_info["namespace"]
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        if key in self.objects[plural]:
            return _status(409)
        self.writes.append(f"create {plural}")
        await self.put(plural, body)
        return web.json_response(self.objects[plural][key], status=201)

    async def _replace(self, request: web.Request) -> web.Response:
        plural, body = request.match_info["plural"], await request.json()
        key = (request.match_info["namespace"], request.match_info["name"])
        if body["metadata"]["resourceVersion"] != self.objects[plural][key]["metadata"]["resourceVersion"]:
            return _status(409)
        self.writes.append(f"replace {plural}")
        body["metadata"]["namespace"] = key[0]
        await self.put(plural, body)
        return web.json_response(self.objects[plural][key])


def _answer(body: Object) -> Any:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(body)

    return handler


async def _send(response: web.StreamResponse, event: Object) -> None:
    await response.write(web.json_response(event).body + b"\n")  # type: ignore[operator]


def _status(code: int) -> web.Response:
    return web.json_response({"kind": "Status", "code": code}, status=code)


def _group(name: str, number: str = "v1") -> Object:
    version = {"groupVersion": f"{name}/{number}", "version": number}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str, number: str = "v1") -> Object:
    found = [
        {
            "name": plural,
            "singularName": kind.lower(),
            "kind": kind,
            "namespaced": kind != "Namespace",
            "verbs": ["get", "list", "watch"],
        }
        for plural, (home, kind) in _PLURALS.items()
        if home == group
    ]
    return {"kind": "APIResourceList", "groupVersion": f"{group}/{number}".lstrip("/"), "resources": found}
