"""A client of registries (OCI distribution spec 1.1): manifests, configurations and tags.

Over HTTPS, except a registry on this machine's loopback. What a digest names is compared with it.
"""

import asyncio
import base64
import binascii
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
import msgspec
from yarl import URL

from moorage.engines.images.image import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    HUB,
    OCI_INDEX,
    OCI_MANIFEST,
    Content,
    Descriptor,
    Reference,
    Repository,
    root_url,
)
from moorage.errors import ConfigurationInvalid
from moorage.trust import trusting

_HUB_KEYS = (HUB, "https://index.docker.io/v1/", "index.docker.io")


class _Entry(msgspec.Struct):
    auth: str = ""
    username: str = ""
    password: str = ""


class _Config(msgspec.Struct):
    auths: dict[str, _Entry] = {}


class Credentials:
    """Name and password by registry."""

    def __init__(self, entries: Mapping[str, str]) -> None:
        self._entries = dict(entries)

    def of(self, registry: str) -> str:
        """Returns `name:password` in base64, as HTTP's Basic has it; "" for none."""
        keys = _HUB_KEYS if registry == HUB else (registry, f"https://{registry}")
        return next((found for key in keys if (found := self._entries.get(key))), "")

    def docker_config(self, registry: str) -> dict[str, Any]:
        """Returns the content of a config.json with the entry of one registry alone."""
        basic = self.of(registry)
        key = _HUB_KEYS[1] if registry == HUB else registry
        return {"auths": {key: {"auth": basic}} if basic else {}}


def read_credentials(path: Path | None) -> Credentials:
    """Reads a file such as `docker login` writes; None: there are none.

    Helpers that it names are not asked. Raises ConfigurationInvalid.
    """
    if path is None:
        return Credentials({})
    try:
        config = msgspec.json.decode(path.read_bytes(), type=_Config)
        return Credentials({host: _basic(entry) for host, entry in config.auths.items()})
    except (OSError, msgspec.DecodeError, binascii.Error, UnicodeDecodeError) as error:
        raise ConfigurationInvalid(
            f"the registry's credentials in {path} can't be read: {error}"
        ) from error


def _basic(entry: _Entry) -> str:
    if entry.username:
        return base64.b64encode(f"{entry.username}:{entry.password}".encode()).decode()
    base64.b64decode(entry.auth, validate=True).decode()
    return entry.auth


_SCHEME = re.compile(r"\s*(basic|bearer)\b", re.IGNORECASE)
_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"', re.IGNORECASE)
_MAX_TOKEN_BYTES = 65_536
_CLIENT = "moorage"

Scopes = tuple[str, ...]
"""What a request may touch, such as `repository:team/app:pull,push`."""


class _Token(msgspec.Struct):
    token: str = ""
    access_token: str = ""


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """What a registry asks for."""

    realm: str = ""  # where tokens are got; "" for name and password themselves
    service: str = ""


@dataclass
class Authorizations:
    """The values of `Authorization` that registries have taken."""

    session: aiohttp.ClientSession
    credentials: Credentials
    _known: dict[tuple[str, Scopes], str] = field(default_factory=dict)

    def known(self, registry: str, scopes: Scopes) -> str:
        """Returns what was taken last; "" at first."""
        return self._known.get((registry, scopes), "")

    async def renew(self, registry: str, scopes: Scopes, challenges: Iterable[str]) -> bool:
        """Gets an authorization that fits the challenges of a 401; returns whether there is one.

        Raises aiohttp.ClientError, TimeoutError.
        """
        challenge = read_challenge(challenges)
        basic = self.credentials.of(registry)
        self._known.pop((registry, scopes), None)
        if challenge is None or not _may_be_asked(challenge.realm, registry):
            return False
        if challenge.realm:
            token = await self._token(challenge, basic, scopes)
            made = f"Bearer {token}" if token else ""
        else:
            made = f"Basic {basic}" if basic else ""
        if made:
            self._known[registry, scopes] = made
        return bool(made)

    async def _token(self, challenge: Challenge, basic: str, scopes: Sequence[str]) -> str:
        query: list[tuple[str, str]] = [("scope", scope) for scope in scopes]
        query += [("service", challenge.service), ("client_id", _CLIENT)]
        headers = {"Authorization": f"Basic {basic}"} if basic else {}
        request: Any = self.session.get(challenge.realm, params=query, headers=headers)
        async with request as answer:
            if answer.status != 200:
                return ""
            body = await answer.content.read(_MAX_TOKEN_BYTES)
        try:
            found = msgspec.json.decode(body, type=_Token)
        except msgspec.DecodeError:
            return ""
        return found.token or found.access_token


def _may_be_asked(realm: str, registry: str) -> bool:
    """Returns whether a registry's tokens may be got there: over HTTPS, as all that it is asked.

    One on this machine's loopback may name another there.
    """
    asked = urlsplit(realm)
    if not realm or asked.scheme == "https":
        return True
    plain = "http://"
    return root_url(registry).startswith(plain) and root_url(asked.netloc).startswith(plain)


def read_challenge(values: Iterable[str]) -> Challenge | None:
    """Reads the headers `WWW-Authenticate`; None if no way that they offer is known."""
    for value in values:
        if (scheme := _SCHEME.match(value)) is None:
            continue
        if scheme[1].lower() == "basic":
            return Challenge()
        found = {name.lower(): text for name, text in _PARAMETER.findall(value)}
        if found.get("realm", "").startswith(("https://", "http://")):
            return Challenge(realm=found["realm"], service=found.get("service", ""))
    return None


_ACCEPTED = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))
_BINARY = "application/octet-stream"
_MAX_DOCUMENT_BYTES = 4 * 1024 * 1024  # of a manifest or configuration, as registries have it
_MAX_ANSWER_CHARS = 300
_PIECE_BYTES = 1 << 20
_TAGS_A_PAGE = 1000
_PAUSES_SECONDS = (0.2, 1.0, 5.0)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?', re.IGNORECASE)
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
T = TypeVar("T")


class RegistryFailed(OSError):
    """A registry does not answer, or refuses; with its answer."""


class NotInRegistry(RegistryFailed):
    """The registry has no such image or blob."""


class _Interrupted(RegistryFailed):
    """The request may succeed when it is sent again."""


class _Unsupported(RegistryFailed):
    """The registry does not do that at all."""


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Registry:
    """The registries there are. Close it at the end."""

    def __init__(
        self, credentials: Credentials, *, pauses_seconds: Sequence[float] = _PAUSES_SECONDS
    ) -> None:
        """`pauses_seconds` are those before what failed for a moment is tried again."""
        self._pauses_seconds = pauses_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting()),
            timeout=_TIMEOUT,
            auto_decompress=False,
        )
        self._authorizations = Authorizations(self._session, credentials)

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def manifest(self, image: Reference) -> Content:
        """Returns a manifest or an index. Raises NotInRegistry, RegistryFailed."""
        place = f"manifests/{image.version}"
        answer = await self._ask("GET", image.repository, place, headers={"Accept": _ACCEPTED})
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        content = Content(media_type=media_type, body=answer.body)
        if image.digest and content.digest != image.digest:
            raise RegistryFailed(f"{image}: the registry's manifest has another digest")
        return content

    async def digest(self, image: Reference) -> str | None:
        """Returns the digest of the manifest that a name has; None if there is none."""
        place = f"manifests/{image.version}"
        try:
            answer = await self._ask("HEAD", image.repository, place, headers={"Accept": _ACCEPTED})
        except NotInRegistry:
            return None
        return answer.headers.get("Docker-Content-Digest") or (await self.manifest(image)).digest

    async def put_manifest(self, image: Reference, content: Content) -> Reference:
        """Stores a manifest under a tag; all it names must be there. Returns it with its digest."""
        await self._ask(
            "PUT",
            image.repository,
            f"manifests/{image.tag}",
            action="pull,push",
            headers={"Content-Type": content.media_type},
            body=content.body,
        )
        return image.pinned(content.digest)

    async def delete_manifest(self, image: Reference) -> bool:
        """Removes a manifest with all its tags; returns False if this registry removes nothing.

        Blobs stay for the registry's own collection. Raises RegistryFailed.
        """
        try:
            place = f"manifests/{image.digest}"
            await self._ask("DELETE", image.repository, place, action="pull,push,delete")
        except NotInRegistry:
            return True
        except _Unsupported:
            return False
        return True

    async def require_writable(self, repository: Repository) -> None:
        """Begins to store a blob, and gives it up. Raises RegistryFailed."""
        begun = await self._ask("POST", repository, "blobs/uploads/", action="pull,push")
        with contextlib.suppress(RegistryFailed):  # it is forgotten all the same, in a while
            await self._ask("DELETE", repository, begun.headers["Location"], action="pull,push")

    async def tags(self, repository: Repository) -> list[str]:
        """Returns the tags of a repository; none if there is no such repository."""
        found: list[str] = []
        place = f"tags/list?n={_TAGS_A_PAGE}"
        while place:
            try:
                answer = await self._ask("GET", repository, place)
            except NotInRegistry:
                return found
            found += _decoded(answer.body, _Tags).tags or []
            link = _NEXT.search(answer.headers.get("Link", ""))
            place = f"tags/list?{link[1].partition('?')[2]}" if link else ""
        return found

    async def blob(self, repository: Repository, named: Descriptor) -> Content:
        """Returns a small blob, such as a configuration. Raises NotInRegistry, RegistryFailed."""
        answer = await self._ask("GET", repository, f"blobs/{named.digest}")
        content = Content(media_type=named.media_type, body=answer.body)
        if content.digest != named.digest:
            raise RegistryFailed(f"{repository}: the registry's blob has another digest")
        return content

    async def push_blob(self, repository: Repository, content: Content) -> None:
        """Stores a small blob, such as a configuration. Raises RegistryFailed."""

        async def push() -> None:
            begun = await self._once("POST", repository, "blobs/uploads/", action="pull,push")
            place = begun.headers["Location"]
            ending = f"{place}{'&' if '?' in place else '?'}digest={quote(content.digest)}"
            headers = {"Content-Type": _BINARY}
            await self._once(
                "PUT", repository, ending, action="pull,push", headers=headers, body=content.body
            )

        await self._patiently(push)

    async def _ask(self, method: str, repository: Repository, place: str, **how: Any) -> _Answer:
        """Sends a request that may be repeated."""
        return await self._patiently(lambda: self._once(method, repository, place, **how))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Does what may be repeated, and repeats it after pauses while it is interrupted."""
        for pause in self._pauses_seconds:
            try:
                return await work()
            except _Interrupted:
                await asyncio.sleep(pause)
        return await work()

    async def _once(self, method: str, repository: Repository, place: str, **how: Any) -> _Answer:
        async with self._opened(method, repository, place, **how) as answer:
            body = bytearray()
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > _MAX_DOCUMENT_BYTES:
                    raise RegistryFailed(f"{repository}: the registry's answer is too large")
            return _Answer(answer.status, answer.headers, bytes(body))

    @asynccontextmanager
    async def _opened(
        self,
        method: str,
        repository: Repository,
        place: str,
        *,
        action: str = "pull",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Sends a request; once more when it has got an authorization. Raises RegistryFailed."""
        scopes: Scopes = (f"repository:{repository.name}:{action}",)
        url = _url(repository, place)
        registry = repository.registry

        def sent() -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            value = self._authorizations.known(registry, scopes)
            mine = {"Authorization": value} if value and _is_of(url, registry) else {}
            return self._session.request(
                method, url, headers={**(headers or {}), **mine}, data=body
            )

        try:
            async with sent() as answer:
                if answer.status != 401:
                    await _check(answer, repository)
                    yield answer
                    return
                challenges = answer.headers.getall("WWW-Authenticate", [])
            await self._authorizations.renew(registry, scopes, challenges)
            async with sent() as answer:
                await _check(answer, repository)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Interrupted(f"{registry} does not answer: {error or 'timeout'}") from error


async def _check(answer: aiohttp.ClientResponse, repository: Repository) -> None:
    if answer.status < 400:
        return
    if answer.status == 404:
        raise NotInRegistry(f"{repository}: the registry has no such image")
    output = (await answer.content.read(_PIECE_BYTES)).decode(errors="replace")[:_MAX_ANSWER_CHARS]
    kind = RegistryFailed
    if answer.status in _BUSY:
        kind = _Interrupted
    elif answer.status == 405:
        kind = _Unsupported
    raise kind(f"{repository}: the registry answers {answer.status}: {output.strip()}")


def _decoded(body: bytes, kind: type[_Tags]) -> _Tags:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise RegistryFailed(f"the registry's answer can't be read: {error}") from error


def _url(repository: Repository, place: str) -> URL:
    """Returns a URL below a repository's, or the one that the registry named."""
    below = urljoin(root_url(repository.registry), f"v2/{repository.name}/")
    return URL(
        urljoin(below, place) if "/v2/" in place or "://" in place else below + place, encoded=True
    )


def _is_of(url: URL, registry: str) -> bool:
    """Returns whether a URL is the registry's own, so that it may see the credentials."""
    return url.origin() == URL(root_url(registry)).origin()
