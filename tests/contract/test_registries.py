"""The client of registries, at a real one, and what it does when that fails."""

import base64
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from moorage.engines.images.image import (
    OCI_MANIFEST,
    Content,
    Descriptor,
    Manifest,
    Reference,
    Repository,
    parse_reference,
)
from moorage.engines.images.registry import (
    Credentials,
    NotInRegistry,
    Registry,
    RegistryFailed,
    read_credentials,
)
from support.engines.registry_fixture import RegistryServer, started_registry

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MIB = 1024 * 1024
USERS = (
    "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # `htpasswd -nbB me secret`
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with started_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with opened() as client:
        yield client


@asynccontextmanager
async def opened(credentials: Credentials | None = None) -> AsyncIterator[Registry]:
    client = Registry(credentials or Credentials({}), pauses_seconds=(0, 0))
    try:
        yield client
    finally:
        await client.close()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


async def pushed(registry: Registry, image: Reference, text: str = "hello") -> Content:
    """A whole image, of one layer."""
    layer, config = text.encode(), msgspec.json.encode({"rootfs": {"diff_ids": [text]}})
    for kind, blob in ((LAYER, layer), (CONFIG, config)):
        await registry.push_blob(image.repository, Content(media_type=kind, body=blob))
    manifest = Manifest(
        config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
        layers=[Descriptor(media_type=LAYER, digest=digest_of(layer), size=len(layer))],
    )
    content = Content(media_type=OCI_MANIFEST, body=msgspec.json.encode(manifest))
    stored = await registry.put_manifest(image, content)
    assert stored.digest == content.digest
    return content


async def test_image_comes_back_by_tag_and_by_digest(
    server: RegistryServer, registry: Registry
) -> None:
    image = parse_reference(f"{server.host}/team/app:v1")
    content = await pushed(registry, image)
    assert await registry.manifest(image) == content
    assert await registry.manifest(image.pinned(content.digest)) == content
    assert await registry.digest(image) == content.digest
    assert await registry.tags(image.repository) == ["v1"]


async def test_removed_image_is_gone_and_removing_it_again_does_nothing(
    server: RegistryServer, registry: Registry
) -> None:
    image = parse_reference(f"{server.host}/team/removed:v1")
    digest = (await pushed(registry, image)).digest
    await registry.delete_manifest(image.pinned(digest))
    await registry.delete_manifest(image.pinned(digest))
    assert await registry.digest(image) is None
    with pytest.raises(NotInRegistry):
        await registry.manifest(image)


async def test_registry_that_deletes_nothing_is_no_failure(tmp_path: Path) -> None:
    with started_registry(tmp_path / "registry", deletes=False) as server:
        async with opened() as registry:
            image = parse_reference(f"{server.host}/team/app:v1")
            digest = (await pushed(registry, image)).digest
            assert not await registry.delete_manifest(image.pinned(digest))
            assert await registry.digest(image) == digest


async def test_what_a_repository_lacks_is_told_from_a_failure(
    server: RegistryServer, registry: Registry
) -> None:
    nowhere = Repository(registry=server.host, name="no/such")
    assert await registry.tags(nowhere) == []
    assert await registry.digest(Reference(repository=nowhere, tag="v1")) is None


async def test_credentials_open_a_registry_that_asks_for_them(tmp_path: Path) -> None:
    with started_registry(tmp_path / "registry", htpasswd=USERS) as server:
        file = tmp_path / "config.json"
        auth = base64.b64encode(b"me:secret").decode()
        file.write_bytes(msgspec.json.encode({"auths": {server.host: {"auth": auth}}}))
        image = parse_reference(f"{server.host}/team/app:v1")
        async with opened(read_credentials(file)) as registry:
            content = await pushed(registry, image)
            assert await registry.manifest(image) == content
        async with opened() as stranger:
            with pytest.raises(RegistryFailed, match="401"):
                await stranger.manifest(image)


class Faulty:
    """A registry that plays what a real one does not do when it is asked to."""

    def __init__(self) -> None:
        self.host = ""
        self.seen: list[tuple[str, str, str]] = []  # method, path, authorization
        self.cut = 0  # how many uploads are cut off
        self.busy = 0  # how many requests are answered 503
        self.tags: list[str] = []
        self.blob = b"content"
        self.stored = b""
        self.token = ""  # asked for, unless it is ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        self.seen.append((request.method, request.path, authorization))
        if request.path == "/token":
            return web.json_response({"token": f"{self.token}:{request.query['scope']}"})
        if self.token and not authorization.startswith(f"Bearer {self.token}:"):
            realm = f'Bearer realm="http://{self.host}/token",service="tests"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        if self.busy:
            self.busy -= 1
            return web.Response(status=503, text="busy")
        return await self.registry(request)

    async def registry(self, request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/tags/list"):
            return self.page(request)
        if "/uploads/" in request.path:
            return await self.upload(request)
        if request.method == "GET" and "/blobs/" in request.path:
            return web.Response(body=self.blob)
        return web.Response(status=404)

    def page(self, request: web.Request) -> web.Response:
        after = request.query.get("last", "")
        name, *rest = [it for it in self.tags if it > after]
        link = f'</v2/team/app/tags/list?last={name}&n=1>; rel="next"'
        headers = {"Link": link} if rest else {}
        return web.json_response({"tags": [name]}, headers=headers)

    async def upload(self, request: web.Request) -> web.Response:
        if request.method == "PUT":
            if self.cut:
                self.cut -= 1
                await request.content.readany()
                assert request.transport is not None
                request.transport.abort()
            self.stored = await request.read()
            assert request.query["digest"] == digest_of(self.stored)
            return web.Response(status=201)
        return web.Response(status=202, headers={"Location": f"{request.path}one?state=a%2Fb"})


@pytest.fixture
async def faulty() -> AsyncIterator[Faulty]:
    played = Faulty()
    app = web.Application(client_max_size=64 * MIB)
    app.router.add_route("*", "/{path:.*}", played.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    played.host = f"{host}:{port}"
    yield played
    await runner.cleanup()


async def test_upload_that_is_cut_off_is_begun_again(faulty: Faulty, registry: Registry) -> None:
    faulty.cut = 1
    content = Content(media_type=CONFIG, body=os.urandom(MIB))
    await registry.push_blob(Repository(registry=faulty.host, name="app"), content)
    assert faulty.stored == content.body


async def test_busy_registry_is_asked_again(faulty: Faulty, registry: Registry) -> None:
    faulty.busy, faulty.tags = 1, ["a"]
    assert await registry.tags(Repository(registry=faulty.host, name="team/app")) == ["a"]


async def test_tags_of_all_pages_are_found(faulty: Faulty, registry: Registry) -> None:
    faulty.tags = ["a", "b", "c"]
    found = await registry.tags(Repository(registry=faulty.host, name="team/app"))
    assert found == ["a", "b", "c"]


async def test_token_is_asked_for_once_for_each_scope(faulty: Faulty, registry: Registry) -> None:
    faulty.token, faulty.tags = "secret", ["a"]
    for name in ("one", "one", "two"):
        await registry.tags(Repository(registry=faulty.host, name=name))
    asked = [path for _, path, _ in faulty.seen if path == "/token"]
    assert len(asked) == 2
    granted = {value for _, path, value in faulty.seen if value}
    assert granted == {f"Bearer secret:repository:{name}:pull" for name in ("one", "two")}


async def test_token_that_is_taken_no_more_is_renewed(faulty: Faulty, registry: Registry) -> None:
    repository = Repository(registry=faulty.host, name="one")
    faulty.token, faulty.tags = "first", ["a"]
    await registry.tags(repository)
    faulty.token = "second"
    assert await registry.tags(repository) == ["a"]


@pytest.mark.parametrize("content", [b"other", b"much longer than it should be"])
async def test_blob_with_another_digest_is_never_taken(
    faulty: Faulty, registry: Registry, content: bytes
) -> None:
    faulty.blob = content
    named = Descriptor(media_type=LAYER, digest=digest_of(b"these"), size=5)
    repository = Repository(registry=faulty.host, name="app")
    with pytest.raises(RegistryFailed):
        await registry.blob(repository, named)
