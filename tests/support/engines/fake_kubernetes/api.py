"""The API server: HTTP requests in, objects out."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from support.engines.fake_kubernetes.container_logs import LogQuery
from support.engines.fake_kubernetes.faults import Faults, Refusal, bad_request, expired, forbidden
from support.engines.fake_kubernetes.resources import (
    ACCESS_REVIEWS,
    POD_METRICS,
    STORED,
    Manifest,
    Resource,
)
from support.engines.fake_kubernetes.selection import selected
from support.engines.fake_kubernetes.store import Store
from support.engines.fake_kubernetes.watching import Watch
from support.engines.fake_kubernetes.writes import APPLY, MERGE, STRATEGIC, Writer

LogSource: TypeAlias = Callable[[str, str, LogQuery], Awaitable[AsyncIterator[bytes]]]
"""Lines of a pod's log, by namespace, name and query; raises Refusal."""

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "GET": "get", "DELETE": "delete"}


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    verb: str

    @property
    def key(self) -> tuple[Resource, str, str]:
        return self.resource, self.namespace, self.name


@dataclass
class ApiServer:
    """Answers requests from the store."""

    store: Store
    writer: Writer
    faults: Faults
    token: str
    logs: LogSource
    metrics: Callable[[], list[Manifest] | None]  # None: no metrics server is installed
    version: str = "v1.36.2"
    bookmark_seconds: float = 1.0
    pages: dict[str, tuple[int, list[Manifest]]] = field(default_factory=dict)
    """What follows a page of a list, by its `continue` token."""
    watches: set[asyncio.Task[Any]] = field(default_factory=set)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._answering], client_max_size=4 << 20)
        app.router.add_get("/version", self._version)
        for path in ("/readyz", "/livez", "/healthz"):
            app.router.add_get(path, self._healthy)
        app.router.add_route("*", "/{path:apis?/.*}", self._serve)
        return app

    async def _version(self, request: web.Request) -> web.StreamResponse:
        major, minor = self.version.removeprefix("v").split(".")[:2]
        found = {"major": major, "minor": minor, "gitVersion": self.version}
        return web.json_response({**found, "platform": "linux/amd64"})

    async def _healthy(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    @web.middleware
    async def _answering(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal(401, "Unauthorized", "Unauthorized")
            return await handler(request)
        except Refusal as refusal:
            retry = {"Retry-After": "1"} if refusal.code == 429 else {}
            return web.json_response(refusal.status, status=refusal.code, headers=retry)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if (found := self._discovered(request)) is not None:
            return web.json_response(found)
        target = self._target(request)
        await self.faults.meet(target.verb, target.resource.plural)
        if (target.verb, target.resource.plural) in self.faults.denied:
            where = f" in the namespace {target.namespace!r}" if target.namespace else ""
            why = f'User "test" cannot {target.verb} resource {target.resource.plural!r}{where}'
            raise forbidden(target.resource, target.name, why)
        if target.resource is ACCESS_REVIEWS:
            return web.json_response(self._reviewed(await _body(request)), status=201)
        if target.resource is POD_METRICS:
            return web.json_response(self._measured(target, request))
        if target.subresource == "log":
            return await self._log(request, target)
        if target.verb == "watch":
            return await self._watch(request, target)
        code, answer = await self._answer(request, target)
        return web.json_response(answer, status=code)

    async def _answer(self, request: web.Request, target: Target) -> tuple[int, Manifest]:
        match target.verb:
            case "list":
                return 200, self._list(request, target)
            case "get":
                found = self.store.get(*target.key)
                return 200, _scale(found) if target.subresource == "scale" else found
            case "create":
                body, manager = await _body(request), _manager(request)
                args = (target.resource, target.namespace, body)
                return 201, self.writer.create(*args, manager=manager)
            case "delete":
                return 200, self.writer.delete(target.key, await _options(request))
            case "deletecollection":
                return 200, await self._delete_all(request, target)
            case _:
                return await self._write(request, target)

    async def _write(self, request: web.Request, target: Target) -> tuple[int, Manifest]:
        body, manager = await _body(request), _manager(request)
        status = target.subresource == "status"
        kind = request.content_type
        if target.subresource == "scale":
            body, kind = {"spec": {"replicas": body["spec"]["replicas"]}}, MERGE
            return 200, _scale(self.writer.patch(target.key, body, kind, manager=manager))
        if target.verb == "update":
            return 200, self.writer.replace(target.key, body, manager=manager, status=status)
        if kind == APPLY:
            if "fieldManager" not in request.query:
                raise bad_request("fieldManager is required for apply patch")
            found, created = self.writer.apply(
                target.key,
                body,
                manager=manager,
                force=request.query.get("force") == "true",
                status=status,
            )
            return (201 if created else 200), found
        if kind not in {MERGE, STRATEGIC}:
            raise Refusal(415, "UnsupportedMediaType", f"no patch of type {kind} is played")
        return 200, self.writer.patch(target.key, body, kind, manager=manager, status=status)

    def _list(self, request: web.Request, target: Target) -> Manifest:
        if token := request.query.get("continue"):
            if token not in self.pages:
                raise expired("The provided continue parameter is too old")
            version, items = self.pages.pop(token)
        else:
            version, items = self.store.version, self._selected(request, target)
        limit = int(request.query.get("limit", 0)) or len(items)
        metadata: Manifest = {"resourceVersion": str(version)}
        if rest := items[limit:]:
            metadata["continue"] = secrets.token_hex(8)
            metadata["remainingItemCount"] = len(rest)
            self.pages[metadata["continue"]] = (version, rest)
        kind = f"{target.resource.kind}List"
        return {
            "kind": kind,
            "apiVersion": target.resource.api_version,
            "metadata": metadata,
            "items": items[:limit],
        }

    def _selected(self, request: web.Request, target: Target) -> list[Manifest]:
        query = request.query
        condition = selected(query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = self.store.all(target.resource, target.namespace)
        return [thing for thing in found if condition(thing)]

    async def _delete_all(self, request: web.Request, target: Target) -> Manifest:
        options, found = await _options(request), self._selected(request, target)
        for thing in found:
            metadata = thing["metadata"]
            key = (target.resource, metadata.get("namespace", ""), metadata["name"])
            self.writer.delete(key, options)
        return {"kind": f"{target.resource.kind}List", "metadata": {}, "items": found}

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        since = query.get("resourceVersion", "")
        watch = Watch(
            resource=target.resource,
            namespace=target.namespace,
            condition=selected(query.get("labelSelector", ""), query.get("fieldSelector", "")),
            since=int(since) if since not in {"", "0"} else None,
            bookmarks=query.get("allowWatchBookmarks") in {"true", "1"},
            timeout_seconds=float(query.get("timeoutSeconds", 1800)),
            bookmark_seconds=self.bookmark_seconds,
        )
        async with (
            aclosing(watch.lines(self.store, self.faults)) as lines,
            aclosing(json.dumps(line).encode() + b"\n" async for line in lines) as encoded,
        ):
            return await self._stream(request, encoded, "application/json")

    async def _stream(
        self, request: web.Request, lines: AsyncIterator[bytes], content_type: str
    ) -> web.StreamResponse:
        """Sends lines as they come, until they end, the client goes, or the stream is cut."""
        response = web.StreamResponse(headers={"Content-Type": content_type})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None
        self.watches.add(task)
        try:
            async for line in lines:
                await response.write(line)
        except ConnectionResetError:
            pass  # the client has gone
        finally:
            self.watches.discard(task)
        return response

    async def _log(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = LogQuery.parsed(request.query)
        lines = await self.logs(target.namespace, target.name, query)
        return await self._stream(request, lines, "text/plain")

    def _reviewed(self, body: Manifest) -> Manifest:
        asked = body["spec"]["resourceAttributes"]
        plural = asked["resource"] + ("/" + asked["subresource"] if "subresource" in asked else "")
        allowed = (asked["verb"], plural) not in self.faults.denied
        return {**body, "status": {"allowed": allowed}}

    def _measured(self, target: Target, request: web.Request) -> Manifest:
        found = self.metrics()
        if found is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        condition = selected(request.query.get("labelSelector", ""), "")
        items = [
            item
            for item in found
            if condition(item) and target.namespace in {"", item["metadata"]["namespace"]}
        ]
        return {
            "kind": "PodMetricsList",
            "apiVersion": "metrics.k8s.io/v1beta1",
            "metadata": {},
            "items": items,
        }

    def _discovered(self, request: web.Request) -> Manifest | None:
        """The resources of a group and version, if the request asks for them."""
        parts = request.path.strip("/").split("/")
        wanted = "/".join(parts[1:])
        if len(parts) != (2 if parts[0] == "api" else 3):
            return None
        found = [r for r in STORED if r.api_version == wanted]
        if not found:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        described = [
            {"name": r.plural, "kind": r.kind, "namespaced": r.namespaced, "verbs": ["list"]}
            for r in found
        ]
        return {"kind": "APIResourceList", "groupVersion": wanted, "resources": described}

    def _target(self, request: web.Request) -> Target:
        """Reads `/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL/NAME/SUBRESOURCE`."""
        parts = request.path.strip("/").split("/")
        group, rest = ("", parts[1:]) if parts[0] == "api" else (parts[1], parts[2:])
        version, rest = rest[0], rest[1:]
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] != "status":
            namespace, rest = rest[1], rest[2:]
        plural, name, subresource = (*rest, "", "")[:3]
        known = (*STORED, ACCESS_REVIEWS, POD_METRICS)
        for resource in known:
            if (resource.group, resource.version, resource.plural) == (group, version, plural):
                return Target(resource, namespace, name, subresource, _verb(request, name))
        raise Refusal(404, "NotFound", "the server could not find the requested resource")


def _verb(request: web.Request, name: str) -> str:
    verb = _VERBS[request.method]
    if name:
        return verb
    if request.query.get("watch") in {"true", "1"}:
        return "watch"
    return {"get": "list", "delete": "deletecollection"}.get(verb, verb)


def _manager(request: web.Request) -> str:
    agent = request.headers.get("User-Agent", "unknown").partition("/")[0]
    return request.query.get("fieldManager") or agent


async def _body(request: web.Request) -> Manifest:
    found = json.loads(await request.read())
    if not isinstance(found, dict):
        raise bad_request("the body is no object")
    return found


async def _options(request: web.Request) -> Manifest:
    """How to delete, from the body and the query."""
    body = await _body(request) if request.can_read_body else {}
    for name in ("propagationPolicy", "gracePeriodSeconds"):
        if name in request.query:
            value = request.query[name]
            body[name] = int(value) if name == "gracePeriodSeconds" else value
    return body


def _scale(deployment: Manifest) -> Manifest:
    metadata = {
        k: deployment["metadata"][k] for k in ("name", "namespace", "resourceVersion", "uid")
    }
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {"replicas": deployment.get("status", {}).get("replicas", 0)},
    }
