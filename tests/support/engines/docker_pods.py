"""Build pods whose containers a real Docker daemon runs, one after the other, as a kubelet does."""

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from moorage.engines.kubernetes.objects import Build, Manifest, PodOptions, build_objects
from support.engines.docker_fixture import Dockerd

SOURCE = Path(__file__).parents[3] / "src"
OPTIONS = PodOptions(instance="tests")


class DockerPods:
    """One pod at a time. Containers of Moorage's own image see the source of this work tree."""

    def __init__(self, dockerd: Dockerd) -> None:
        self._dockerd = dockerd
        self._name = ""
        self._states: dict[str, Any] = {}
        self._running: asyncio.Task[None] | None = None
        self.unscheduled = False
        self.seen: Manifest = {}
        self.values: dict[str, dict[str, str]] = {}  # of Secrets, by name
        self.removed = 0

    async def start(self, build: Build) -> None:
        *given, self.seen = build_objects(build, OPTIONS)
        self.values = {it["metadata"]["name"]: _opened(it["data"]) for it in given}
        self._name, self._states = f"pod-{secrets.token_hex(4)}", {}
        if not self.unscheduled:
            self._running = asyncio.create_task(self._run())

    async def look(self, build: Build) -> Manifest | None:
        statuses = [{"name": name, "state": state} for name, state in self._states.items()]
        conditions = [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]
        return {
            "status": {
                "initContainerStatuses": statuses[:-1],
                "containerStatuses": statuses[-1:],
                "conditions": conditions if self.unscheduled else [],
            }
        }

    async def output(self, build: Build, container: str) -> AsyncIterator[Sequence[str]]:
        process = await self._docker("logs", "--follow", f"{self._name}-{container}")
        assert process.stdout is not None
        async for line in process.stdout:
            yield [line.decode().rstrip("\n")]
        await process.wait()

    async def remove(self, build: Build) -> None:
        self.removed += 1
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for name in self._states:
            await self._said("rm", "--force", "--volumes", f"{self._name}-{name}")

    async def _run(self) -> None:
        spec = self.seen["spec"]
        for container in [*spec["initContainers"], *spec["containers"]]:
            if not await self._has_succeeded(container):
                return

    async def _has_succeeded(self, container: Manifest) -> bool:
        name = f"{self._name}-{container['name']}"
        message = self._place(f"{container['name']}.message")
        message.touch(mode=0o666)
        message.chmod(0o666)
        await self._said(*self._create(container, name, message))
        await self._said("start", name)
        self._states[container["name"]] = {"running": {}}
        await self._said("wait", name)
        (state,) = msgspec.json.decode(await self._said("inspect", name))
        ended = state["State"]
        self._states[container["name"]] = {
            "terminated": {
                "exitCode": ended["ExitCode"],
                "reason": "OOMKilled" if ended["OOMKilled"] else "",
                "message": message.read_text(),
            }
        }
        return bool(ended["ExitCode"] == 0)

    def _create(self, container: Manifest, name: str, message: Path) -> list[str]:
        own = container["name"] in {"fetch", "keep", "pack"}
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        limits = container["resources"]["limits"]
        return [
            *("create", "--name", name, "--user", "1000:1000", "--read-only", "--cap-drop", "ALL"),
            *("--memory", limits["memory"], "--volume", f"{message}:/dev/termination-log"),
            *(word for mount in container["volumeMounts"] for word in self._mounted(mount)),
            *(word for pair in self._variables(container) for word in ("--env", pair)),
            *(("--volume", f"{SOURCE}:/src:ro", "--env", "PYTHONPATH=/src") if own else ()),
            *(("--workdir", container["workingDir"]) if "workingDir" in container else ()),
            *("--entrypoint", container["command"][0], container["image"]),
            *(word.replace("$$", "$") for word in container["command"][1:]),
        ]

    def _mounted(self, mount: Manifest) -> list[str]:
        place = self._place(mount["name"])
        place.mkdir(exist_ok=True)
        place.chmod(0o777)
        return ["--volume", f"{place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}"]

    def _variables(self, container: Manifest) -> list[str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", ()):
            found |= self.values[source["secretRef"]["name"]]
        for variable in container.get("env", ()):
            key = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = self.values[key["name"]][key["key"]]
        return [f"{name}={value}" for name, value in found.items()]

    def _place(self, name: str) -> Path:
        directory = self._dockerd.shared / self._name
        directory.mkdir(exist_ok=True)
        return directory / name

    async def _said(self, *words: str) -> bytes:
        process = await self._docker(*words)
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said

    async def _docker(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "docker",
            *("--host", self._dockerd.host, *words),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )


def _opened(data: dict[str, str]) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in data.items()}
