"""Images that nobody needs leave a real registry, and those that are needed stay."""

import hashlib
import secrets
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from moorage.engines.images.credentials import Credentials
from moorage.engines.images.layer import Layer
from moorage.engines.images.manifest import (
    OCI_MANIFEST,
    Content,
    Descriptor,
    Manifest,
    Platform,
    RunConfiguration,
)
from moorage.engines.images.reference import Repository, parse_reference
from moorage.engines.images.registry import Registry
from moorage.engines.kubernetes.building.registry.image_store import PackedLayer
from moorage.engines.kubernetes.building.registry.images import (
    BaseKeeping,
    DeploymentImages,
    StoredBase,
)
from moorage.engines.kubernetes.objects.labels import wallet_hash
from support.engines.registry_fixture import BOUND_SECONDS, RegistryServer, started_registry
from support.gateway.clock import MovableClock

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
RUN = RunConfiguration(user="1000", environment={}, directory="/app", command=("true",))
OWNER = "0x" + "ab" * 20
DAY_MS = 86_400_000
BASE_BYTES = 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    with started_registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@dataclass
class Stock:
    """Images of one cluster, and where they and their bases come from."""

    server: RegistryServer
    registry: Registry
    clock: MovableClock
    scratch: Path
    root: Repository
    images: DeploymentImages

    def of(self, made_by: str, *, keeping: BaseKeeping) -> DeploymentImages:
        """What another cluster, or the same one later, has of them."""
        return DeploymentImages(
            self.registry,
            self.root,
            made_by=made_by,
            platform=Platform(architecture="amd64"),
            scratch=self.scratch,
            clock=self.clock,
            keeping=keeping,
        )

    async def hub(self, name: str) -> str:
        """An image that anybody may build on, of one layer with a digest of its own."""
        image = parse_reference(f"{self.server.host}/hub/{self.root.name}-{name}:1")
        layer = name.encode().ljust(BASE_BYTES, b"-")
        config = msgspec.json.encode({"rootfs": {"diff_ids": [digest_of(layer)]}})
        for blob in (layer, config):
            await self.registry.push_blob(image.repository, blob, digest=digest_of(blob))
        manifest = Manifest(
            config=Descriptor(media_type=CONFIG, digest=digest_of(config), size=len(config)),
            layers=[Descriptor(media_type=LAYER, digest=digest_of(layer), size=len(layer))],
        )
        await self.registry.put_manifest(
            image, Content(media_type=OCI_MANIFEST, body=msgspec.json.encode(manifest))
        )
        return str(image)

    async def deploy(self, deployment_id: str, base: StoredBase, content: bytes) -> str:
        file = self.scratch / deployment_id
        file.write_bytes(content)
        layer = Layer(digest=digest_of(content), diff_id=digest_of(content), size=len(content))
        built = await self.images.publish(
            owner=OWNER,
            deployment_id=deployment_id,
            base=base,
            layers=[PackedLayer(layer, file)],
            run=RUN,
        )
        return built.reference

    async def bases(self) -> set[str]:
        """The base images that are there."""
        tags = await self.registry.tags(self.root.below("bases"))
        return {tag for tag in tags if not tag.startswith("used-")}


@pytest.fixture
async def stock(server: RegistryServer, tmp_path: Path) -> AsyncIterator[Stock]:
    registry = Registry(Credentials({}), pauses_seconds=(0, 0))
    root = Repository(registry=server.host, name=f"apps-{secrets.token_hex(4)}")
    clock = MovableClock()
    images = DeploymentImages(
        registry,
        root,
        made_by="one",
        platform=Platform(architecture="amd64"),
        scratch=tmp_path,
        clock=clock,
    )
    yield Stock(server, registry, clock, tmp_path, root, images)
    await registry.close()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tags_of(bases: Sequence[StoredBase]) -> set[str]:
    return {base.stored.tag for base in bases}


async def test_base_image_that_no_build_uses_goes_and_comes_back_when_one_does(
    stock: Stock,
) -> None:
    names = [await stock.hub(name) for name in ("old", "used")]
    old, used = [await stock.images.base(name) for name in names]
    app = await stock.deploy("first", old, b"files")
    stock.clock.advance(20 * DAY_MS)
    await stock.images.base(names[1])
    await stock.images.collect_bases()
    assert await stock.bases() == tags_of([old, used])

    stock.clock.advance(20 * DAY_MS)
    later = stock.of("one", keeping=BaseKeeping())  # a gateway that was started anew
    await later.collect_bases()
    assert await stock.bases() == tags_of([used])
    layers = msgspec.json.decode((await stock.registry.manifest(parse_reference(app))).body)
    for layer in layers["layers"]:
        assert await stock.registry.has_blob(parse_reference(app).repository, layer["digest"])
    assert (await later.base(names[0])).stored == old.stored
    await later.collect_bases()
    assert await stock.bases() == tags_of([old, used])


async def test_too_many_base_images_make_room_for_each_other(stock: Stock) -> None:
    small = stock.of("one", keeping=BaseKeeping(max_bytes=2 * BASE_BYTES))
    found = []
    for name in ("a", "b", "c"):
        found.append(await small.base(await stock.hub(name)))
        stock.clock.advance(DAY_MS)
    await small.collect_bases()
    assert await stock.bases() == tags_of(found[1:])


async def test_base_image_that_another_cluster_uses_stays(stock: Stock) -> None:
    name = await stock.hub("shared")
    base = await stock.images.base(name)
    stock.clock.advance(40 * DAY_MS)
    other = stock.of("another", keeping=BaseKeeping())
    await other.base(name)
    await stock.images.collect_bases()
    assert await stock.bases() == tags_of([base])


async def test_base_image_of_which_nothing_is_noted_counts_from_now_on(stock: Stock) -> None:
    base = await stock.images.base(await stock.hub("unknown"))
    notes = next(
        tag for tag in await stock.registry.tags(stock.root.below("bases")) if "used-" in tag
    )
    noted = parse_reference(f"{stock.root}/bases:{notes}")
    digest = await stock.registry.digest(noted)
    assert digest is not None
    await stock.registry.delete_manifest(noted.pinned(digest))
    stock.clock.advance(40 * DAY_MS)
    later = stock.of("one", keeping=BaseKeeping())
    await later.collect_bases()
    assert await stock.bases() == tags_of([base])
    stock.clock.advance(40 * DAY_MS)
    await later.collect_bases()
    assert await stock.bases() == set()


async def test_removed_deployments_files_leave_the_disk_with_the_registrys_collection(
    stock: Stock,
) -> None:
    base = await stock.images.base(await stock.hub("kept"))
    kept, gone = b"files that are kept", b"files that go"
    await stock.deploy("kept", base, kept)
    await stock.deploy("gone", base, gone)
    await stock.images.remove(wallet_hash(OWNER), "gone")
    blobs = stock.server.storage / "docker/registry/v2/blobs/sha256"
    on_disk = [(blobs / name[7:9] / name[7:]).exists() for name in map(digest_of, (kept, gone))]
    assert on_disk == [True, True]

    config = stock.server.log.parent / "config.json"
    collect = ["docker-registry", "garbage-collect", "--delete-untagged", str(config)]
    subprocess.run(collect, check=True, capture_output=True, timeout=BOUND_SECONDS)
    on_disk = [(blobs / name[7:9] / name[7:]).exists() for name in map(digest_of, (kept, gone))]
    assert on_disk == [True, False]
    assert await stock.bases() == tags_of([base])
