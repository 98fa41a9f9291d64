"""The Kubernetes engine on a real cluster, whose images go through a registry.

MOORAGE_TEST_KUBECONFIG names the cluster's file, MOORAGE_TEST_REGISTRY the place in a registry that
this machine and the cluster's nodes reach, MOORAGE_TEST_IMAGE an image there with `sh`, `node` and
`python3`. This machine must reach pods by their addresses.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

import moorage
from moorage.clock import SystemClock
from moorage.engines.engine import BuildSpec
from moorage.engines.images.credentials import Credentials
from moorage.engines.images.layer import LayerBounds, Place, write_layer
from moorage.engines.images.manifest import RunConfiguration, platform_here
from moorage.engines.images.reference import parse_repository
from moorage.engines.images.registry import Registry
from moorage.engines.kubernetes.building.registry.image_store import PackedLayer
from moorage.engines.kubernetes.building.registry.images import BuiltImage, DeploymentImages
from moorage.engines.kubernetes.cluster.shared import Log, Tickets
from support.engines.pod_exchange import one_exchange

SOURCES = Path(moorage.__file__).parent.parent
MODULES = "/moorage"
"""Where images have the sources."""


@dataclass
class PushingBuilder:
    """Puts the files of a deployment on the image of the tests, instead of building."""

    scratch: Path
    host: str = ""  # this machine, as pods see it

    def __post_init__(self) -> None:
        self.registry = Registry(Credentials({}))
        self.images = DeploymentImages(
            self.registry,
            parse_repository(os.environ["MOORAGE_TEST_REGISTRY"]),
            made_by="tests",
            platform=platform_here(),
            scratch=self.scratch,
            clock=SystemClock(),
        )

    async def aclose(self) -> None:
        await self.registry.close()

    async def build(self, spec: BuildSpec, log: Log) -> BuiltImage:
        command = ("/bin/sh", "-c", f"exec {spec.plan.start}")
        place = Place(spec.source, "app", uid=1000)
        await log([f"copied {spec.deployment_id}"])
        return await self._publish(spec.owner, spec.deployment_id, place, command)

    async def own_image(self) -> str:
        """An image with Moorage's modules."""
        place = Place(SOURCES, MODULES.strip("/"))
        return (await self._publish("own", secrets.token_hex(4), place, ("true",))).reference

    async def copy(self, image: str, deployment_id: str) -> BuiltImage:
        return await self.images.copy(image, deployment_id)

    async def user(self, image: str) -> int:
        return await self.images.user(image)

    async def remove(self, wallet: str, deployment_id: str) -> None:
        await self.images.remove(wallet, deployment_id)

    async def stored(self, wallet: str) -> set[str]:
        return await self.images.stored(wallet)

    async def collect(self) -> None:
        return

    async def fetch_files(
        self, image: str, target: Path, *, without: Collection[str], max_bytes: int
    ) -> None:
        await self.images.fetch_files(image, target, without=without, max_bytes=max_bytes)

    def offered(
        self, *, source: Path, result: Path, max_bytes: int
    ) -> AbstractAsyncContextManager[Tickets]:
        return one_exchange(self.host, 8404, source=source, result=result, max_bytes=max_bytes)

    async def collect_installs(self, wallet: str, *, is_over: bool) -> None:
        return

    async def _publish(
        self, owner: str, deployment_id: str, place: Place, command: Sequence[str]
    ) -> BuiltImage:
        base = await self.images.base(os.environ["MOORAGE_TEST_IMAGE"])
        file = self.scratch / secrets.token_hex(8)
        with file.open("wb") as out:
            bounds = LayerBounds(max_bytes=1 << 30)
            layer = await asyncio.to_thread(write_layer, [place], out, bounds)
        return await self.images.publish(
            owner=owner,
            deployment_id=deployment_id,
            base=base,
            layers=[PackedLayer(layer, file)],
            run=RunConfiguration(
                user="1000",
                environment={"PYTHONPATH": MODULES},
                directory="/app",
                command=command,
            ),
        )


def own_address(kubeconfig: str) -> str:
    """This machine's address towards the cluster."""
    config = msgspec.yaml.decode(Path(kubeconfig).read_bytes())
    server = urlsplit(config["clusters"][0]["cluster"]["server"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as looking:
        looking.connect((server.hostname, server.port))
        return str(looking.getsockname()[0])
