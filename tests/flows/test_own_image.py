"""Moorage's own image is a gateway's: each example deploys from it, however images are built."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from bookish import InstalledGateway, real_node

from moorage.engines.images.base_images import DEFAULTS
from support.chains.chain_fixture import LocalChains
from support.clients.examples import TITLES, deploys_and_answers
from support.engines.base_image import SHOWN
from support.engines.docker_fixture import (
    Dockerd,
    import_base,
    offered_buildkitd,
    offered_by_tls,
    started_dockerd,
)
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import OWN_IMAGE
from support.engines.own_image_fixture import IMAGE, OwnImage
from support.engines.runtime_fixture import registry_for_both
from support.gateway.served import ended

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.asyncio(loop_scope="module")]

LANGUAGES = "moorage-tests-languages"
BUILDKIT = {"features": {"containerd-snapshotter": True}, "storage-driver": "overlayfs"}
AS_IT_IS = {"bridge": "none", "iptables": False, "ip6tables": False}
USER = "1000"  # of the image
OFFERS = {"docker": offered_by_tls, "buildkitd": offered_buildkitd}


class ContainedGateway(InstalledGateway):
    """One that is run from the image, in the machine's network, with these files beside its own."""

    docker: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    def process(self) -> tuple[list[str], bool]:
        """As somebody runs the image."""
        _, *arguments = self.program()
        mounts = [f"--volume={path}:{path}" for path in (self.config.parent, *self.files)]
        return [*self.docker, "run", "--rm", "--network=host", *mounts, IMAGE, *arguments], False


@pytest.fixture(scope="module")
def host_dockerd(image: OwnImage) -> Iterator[Dockerd]:
    """A daemon with the image, whose containers may share this machine's network."""
    with started_dockerd("/proc/self/ns/net", settings=AS_IT_IS) as started:
        archive = started.directory / "image.tar"
        image.dockerd.run("save", "--output", str(archive), IMAGE)
        started.run("load", "--input", str(archive))
        archive.unlink()
        yield started


@pytest.fixture(scope="module", params=OFFERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def builder(kind: str) -> Iterator[Dockerd]:
    """A daemon that has the base image of all languages."""
    with started_dockerd(settings=BUILDKIT if kind == "buildkitd" else {}) as started:
        import_base(started, LANGUAGES, with_python=True, with_npm=True)
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    host_dockerd: Dockerd,
    builder: Dockerd,
    building_cluster: Cluster,
    local_chains: LocalChains,
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
) -> AsyncIterator[ContainedGateway]:
    building_cluster.images.shown = SHOWN
    directory = host_dockerd.shared / kind
    directory.mkdir()
    async with AsyncExitStack() as stack:
        registry = stack.enter_context(
            registry_for_both(tmp_path_factory.mktemp("registry"), builder)
        )
        address = await stack.enter_async_context(OFFERS[kind](builder, directory / "builder"))
        node = await real_node(stack, local_chains.arbitrum.rpc_urls[0])
        kubeconfig = directory / "kubeconfig"
        kubeconfig.write_text(building_cluster.kubeconfig().read_text())
        made = ContainedGateway(
            directory,
            local_chains,
            isolation="kubernetes",
            kubernetes_config=str(kubeconfig),
            kubernetes_namespace="own",
            kubernetes_registry=f"{registry.host}/apps",
            kubernetes_own_image=OWN_IMAGE,
            kubernetes_builder=address,
            kubernetes_credentials=str(directory / "builder"),
            kubernetes_gateway_networks=[f"{building_cluster.host}/32"],
            base_images=dict.fromkeys(DEFAULTS, LANGUAGES),
            dockerfile_registries=["*", "local"],
        )
        made.write(chains={"arbitrum": {"rpc_urls": [node]}})
        made.data_dir.mkdir(mode=0o700)
        made.docker = ("docker", "--host", host_dockerd.host)
        own = ["chown", "--recursive", USER, str(directory)]
        await asyncio.to_thread(subprocess.run, own, check=True)
        with ended(made):
            await asyncio.to_thread(made.start)
            yield made


@pytest.mark.parametrize("example", TITLES)
async def test_example_deploys_from_the_image(gateway: ContainedGateway, example: str) -> None:
    await deploys_and_answers(gateway, example)
