"""The connection to a cluster's API server; its errors become ours here.

lightkube reads the configuration, renews tokens and makes the TLS context. Objects are plain JSON.

All requests may be repeated: reads, server-side apply, deletions, reviews. They are, at most
`_TRIES` times, when the server is busy (429), fails (5xx) or does not answer; and for a minute when
it forbids them.

Only the leader changes the cluster, and asks before each try whether it still leads. A change that
comes late all the same does nothing: objects are deleted and scaled as they were seen.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from lightkube.config.client_adapter import user_auth, verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable, ConfigurationInvalid
from moorage.loop import Keeps, always
from moorage.trust import as_tools_do


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where the API has it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Returns the path of one object, of those of a namespace, or of all."""
        root = "apis" if "/" in self.api_version else "api"
        within = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"/{root}/{self.api_version}{within}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
NODES = Resource("v1", "Node", "nodes", namespaced=False)
PODS = Resource("v1", "Pod", "pods")
SECRETS = Resource("v1", "Secret", "secrets")
SERVICES = Resource("v1", "Service", "services")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
QUOTAS = Resource("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGES = Resource("v1", "LimitRange", "limitranges")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
REVIEWS = Resource(
    "authorization.k8s.io/v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
)
POD_METRICS = Resource("metrics.k8s.io/v1beta1", "PodMetrics", "pods")

_APPLIED = {
    (it.api_version, it.kind): it
    for it in (
        NAMESPACES, PODS, SECRETS, SERVICES, CONFIG_MAPS, CLAIMS, QUOTAS, LIMIT_RANGES,
        DEPLOYMENTS, NETWORK_POLICIES,
    )
}  # fmt: skip


def resource_of(manifest: Manifest) -> Resource:
    """Returns where the API has an object that the gateway makes."""
    return _APPLIED[manifest["apiVersion"], manifest["kind"]]


FIELD_MANAGER = "moorage"
FORBIDDEN = "Forbidden"
"""The server's word where it refuses what an account, a quota or a policy does not allow."""

CONFLICT = "Conflict"  # where an object is not, or no longer, as the request says

LOG_LINE_BYTES = 64 * 1024
"""How much is read of a line that an app prints."""

_EVENT_BYTES = 16 * 1024 * 1024  # of a watch: an object has 1.5 MB at most where it is stored
_ALWAYS_THERE = "kube-system"
_TRIES = 4
_AUTHORIZED_TRIES = 15  # some minute, in which a server that has just started reads the roles
_NOT_AUTHORIZED = 'User "'  # as in `pods is forbidden: User "…" cannot list resource "pods"`
_POD_TRIES = 25
_PAUSE_SECONDS = 0.2  # before the second try; doubled before each further one
_MAX_PAUSE_SECONDS = 5.0  # also of what the server asks for
_CONNECT_SECONDS = 5.0
_TIMEOUT = httpx2.Timeout(20.0, connect=_CONNECT_SECONDS)
_PAGE = 500
_APPLY, _MERGE = "application/apply-patch+yaml", "application/merge-patch+json"  # JSON is YAML
_CONTENT_TYPE = "Content-Type"
_CHANGES = ("PATCH", "DELETE")  # of what is there; a review, which is posted, changes nothing
_IDENTITY = ("uid", "resourceVersion")


class Refused(OSError):
    """The API server does not do it; `reason` is its word for why, such as `Forbidden`."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class NotFound(Refused):
    """The cluster has no such object, or no such kind of objects."""


class Gone(Refused):
    """The server no longer has what a watch, or the next page of a list, continues from."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The objects that matched, and the version of the cluster at which they were so."""

    items: list[Manifest]
    version: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """An event of a watch: ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Manifest


def read_configuration(file: str) -> SingleConfig:
    """Returns how to reach the cluster: by a kubeconfig, or as a pod of it where `file` is empty.

    Raises ConfigurationInvalid.
    """
    try:
        if file:
            found = KubeConfig.from_file(Path(file)).get(None)
        else:
            found = KubeConfig.from_service_account().get()
    except (ConfigError, KeyError, OSError, ValueError, msgspec.ValidationError) as error:
        raise ConfigurationInvalid(f"kubernetes_config: {error}") from error
    if found is None:
        raise ConfigurationInvalid(f"kubernetes_config: {file} names no current context")
    return found if found.user is not None else found._replace(user=User())


def _trust(configuration: SingleConfig, user: User) -> ssl.SSLContext:
    """Returns whom to trust as the API server, and the certificate to show it, if any."""
    return as_tools_do(verify_cluster(configuration.cluster, user, configuration.abs_file))


class Cluster:
    """A cluster's API server. Close it at the end.

    Methods raise ClusterUnavailable where the server's answer is not known, and Refused, NotFound
    or Gone where it is and is a refusal.
    """

    def __init__(self, configuration: SingleConfig, *, keeps: Keeps = always) -> None:
        """`keeps` says whether this gateway may still change the cluster."""
        self._keeps = keeps
        user = configuration.user or User()
        self._client = httpx2.AsyncClient(
            base_url=configuration.cluster.server,
            verify=_trust(configuration, user),
            auth=user_auth(user),
            timeout=_TIMEOUT,
            # Each running app has its log followed, by a connection of its own.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20),
            trust_env=False,  # a proxy for the world does not reach a cluster's own network
        )

    def require_leader(self) -> None:
        """Raises ClusterUnavailable if another gateway may keep the apps by now."""
        if not self._keeps():
            raise ClusterUnavailable(
                "Another gateway may keep the apps now: this one changes none."
            )

    async def close(self) -> None:
        """Closes all connections."""
        await self._client.aclose()

    async def version(self) -> str:
        """Returns the version of the API server, such as `v1.34.1`."""
        found = await self._request("GET", "/version")
        return str(found.get("gitVersion", ""))

    async def uid(self) -> str:
        """Returns what identifies this cluster: the id of a namespace."""
        found = await self.get(NAMESPACES, _ALWAYS_THERE)
        return str(found["metadata"]["uid"])

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> Manifest:
        """Returns one object."""
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, *, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> Listed:
        """Returns the objects with these labels, of one namespace or of all."""
        while True:
            try:
                return await self._pages(resource.path(namespace), selector(labels or {}))
            except Gone:  # it took so long that the rest of the pages is forgotten
                continue

    async def apply(self, manifest: Manifest) -> Manifest:
        """Makes an object as the manifest says, also one of other makers; returns it.

        A new namespace refuses pods for a moment, until it has a service account.
        """
        left = _POD_TRIES if resource_of(manifest) is PODS else 1
        while True:
            left -= 1
            try:
                return await self._apply(manifest)
            except Refused as error:
                if not left or error.reason != FORBIDDEN:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _apply(self, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        path = resource_of(manifest).path(metadata.get("namespace", ""), metadata["name"])
        return await self._request(
            "PATCH",
            path,
            params={"fieldManager": FIELD_MANAGER, "force": "true"},
            content=msgspec.json.encode(manifest),
            headers={_CONTENT_TYPE: _APPLY},
        )

    async def scale(self, seen: Manifest, *, replicas: int) -> Manifest:
        """Changes how many pods a Deployment has; returns it. Refused if it is not as `seen`."""
        metadata = seen["metadata"]
        version = {"resourceVersion": metadata["resourceVersion"]}
        return await self._request(
            "PATCH",
            DEPLOYMENTS.path(metadata["namespace"], metadata["name"]),
            params={"fieldManager": FIELD_MANAGER},
            content=msgspec.json.encode({"metadata": version, "spec": {"replicas": replicas}}),
            headers={_CONTENT_TYPE: _MERGE},
        )

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", seen: Manifest | None = None
    ) -> None:
        """Asks for an object's end, and that of what it made; does nothing if there is none.

        With `seen`, its metadata or a part of them, another object of this name is left alone.
        """
        options: dict[str, Any] = {"propagationPolicy": "Background"}
        if seen is not None:
            options["preconditions"] = {k: seen[k] for k in _IDENTITY if k in seen}
        try:
            await self._request(
                "DELETE",
                resource.path(namespace, name),
                content=msgspec.json.encode(options),
                headers={_CONTENT_TYPE: "application/json"},
            )
        except NotFound:
            return
        except Refused as error:
            if seen is None or error.reason != CONFLICT:
                raise

    async def allows(self, review: Manifest) -> bool:
        """Returns what the server answers to a SelfSubjectAccessReview."""
        answer = await self._request(
            "POST",
            REVIEWS.path(),
            content=msgspec.json.encode(review),
            headers={_CONTENT_TYPE: "application/json"},
        )
        return bool(answer.get("status", {}).get("allowed"))

    async def watch(
        self,
        resource: Resource,
        *,
        labels: Mapping[str, str],
        version: str,
        seconds: int,
        silence_seconds: float,
    ) -> AsyncGenerator[Change, None]:
        """Gives what changes after `version`, for `seconds` at most.

        Raises ClusterUnavailable when the connection is lost, or nothing came, no bookmark either,
        for `silence_seconds`.
        """
        params = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
            "labelSelector": selector(labels),
        }
        path = resource.path()
        async with self._stream(path, params, silence_seconds=silence_seconds) as chunks:
            async for batch in batches(chunks, max_bytes=_EVENT_BYTES):
                for line in batch:
                    yield _change(line)

    @asynccontextmanager
    async def log(
        self, *, namespace: str, pod: str, params: Mapping[str, str], silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Gives a container's output in pieces; `params` are the API's own."""
        path = f"{PODS.path(namespace, pod)}/log"
        async with self._stream(path, params, silence_seconds=silence_seconds) as chunks:
            yield chunks

    async def _pages(self, path: str, labels: str) -> Listed:
        items: list[Manifest] = []
        params = {"limit": str(_PAGE), "labelSelector": labels}
        while True:
            page = await self._request("GET", path, params=params)
            items += page.get("items") or []
            metadata = page.get("metadata", {})
            if not (rest := metadata.get("continue")):
                return Listed(items=items, version=str(metadata.get("resourceVersion", "")))
            params["continue"] = rest

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Manifest:
        pause = _PAUSE_SECONDS
        for left in reversed(range(_AUTHORIZED_TRIES)):
            if method in _CHANGES:
                self.require_leader()
            is_refused = False
            try:
                answer = await self._client.request(
                    method, path, params=params, content=content, headers=headers
                )
                is_refused = _is_not_authorized(answer)
                if not (_is_passing(answer) or (left and is_refused)):
                    return _read(answer)
                pause = max(pause, _retry_after(answer))
                problem = f"{answer.status_code} {_status(answer.content).get('message', '')}"
            except (httpx2.HTTPError, ConfigError) as error:
                problem = str(error) or type(error).__name__
            if left <= _AUTHORIZED_TRIES - _TRIES and not is_refused:
                break
            await asyncio.sleep(min(pause, _MAX_PAUSE_SECONDS))
            pause *= 2
        raise ClusterUnavailable(f"The cluster does not answer {method} {path}: {problem}")

    @asynccontextmanager
    async def _stream(
        self, path: str, params: Mapping[str, str], *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        timeout = httpx2.Timeout(silence_seconds, connect=_CONNECT_SECONDS)
        try:
            async with self._client.stream("GET", path, params=params, timeout=timeout) as answer:
                if answer.status_code != HTTPStatus.OK:
                    await answer.aread()
                    if _is_passing(answer):
                        raise ClusterUnavailable(f"The cluster answers {answer.status_code}.")
                    _read(answer)
                yield answer.aiter_bytes()
        except httpx2.HTTPError as error:
            raise ClusterUnavailable(f"The cluster does not answer {path}: {error!r}") from error


def selector(labels: Mapping[str, str]) -> str:
    """Returns a label selector for objects that have all of these labels."""
    return ",".join(f"{name}={value}" if value else name for name, value in labels.items())


async def batches(chunks: AsyncIterator[bytes], *, max_bytes: int) -> AsyncIterator[list[bytes]]:
    """Gives the whole lines of a stream as they come, without their line feeds.

    A rest at its end is a line too. What a line has beyond `max_bytes` is left out as it comes:
    who prints need never end a line.
    """
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        rest = rest[:max_bytes]
        if whole:
            yield [line[:max_bytes] for line in whole]
    if rest:
        yield [rest]


def _change(line: bytes) -> Change:
    try:
        event = msgspec.json.decode(line)
    except msgspec.DecodeError as error:  # cut in the middle
        raise ClusterUnavailable("The cluster ended a watch in the middle of an event.") from error
    if event["type"] == "ERROR":
        raise _refusal(event["object"])
    return Change(type=event["type"], object=event["object"])


def _is_passing(answer: httpx2.Response) -> bool:
    """Returns whether the same request may do better later."""
    code = answer.status_code
    return code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_not_authorized(answer: httpx2.Response) -> bool:
    """Returns whether the server says that this account may not do such a thing at all.

    One that has just started says so of everybody, until it has read the roles. Quotas and policies
    refuse by the same code and reason, with other words.
    """
    if answer.status_code != HTTPStatus.FORBIDDEN:
        return False
    return _NOT_AUTHORIZED in str(_status(answer.content).get("message", ""))


def _retry_after(answer: httpx2.Response) -> float:
    output = answer.headers.get("Retry-After", "")
    return float(output) if output.isdigit() else 0.0


def _read(answer: httpx2.Response) -> Manifest:
    if answer.is_success:
        found: Manifest = msgspec.json.decode(answer.content)
        return found
    raise _refusal({"code": answer.status_code, **_status(answer.content)})


def _status(content: bytes) -> Manifest:
    """Returns the `Status` that an answer holds; empty if it is none."""
    try:
        found = msgspec.json.decode(content)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(status: Manifest) -> Exception:
    code, reason = status.get("code"), str(status.get("reason", ""))
    message = str(status.get("message") or reason or f"the cluster answers {code}")
    if code == HTTPStatus.NOT_FOUND:
        return NotFound(message, reason=reason)
    if code == HTTPStatus.GONE:
        return Gone(message, reason=reason)
    if code is None or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ClusterUnavailable(message)
    return Refused(message, reason=reason)
