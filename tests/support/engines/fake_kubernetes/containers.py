"""One run of a container, by runc."""

import asyncio
import json
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from support.engines.fake_kubernetes.admission import number
from support.engines.fake_kubernetes.container_logs import ContainerLog
from support.engines.fake_kubernetes.images import Image
from support.engines.fake_kubernetes.network import Sandbox, run
from support.engines.fake_kubernetes.resources import Manifest

_TOP = Path("/sys/fs/cgroup")
_UNIFIED = (_TOP / "cgroup.controllers").exists()


def out_of_memory(group: str) -> bool:
    """Whether the kernel has killed a process of it for its memory."""
    name = "memory.events" if _UNIFIED else "memory.oom_control"
    return _entries(_file("memory", group, name)).get("oom_kill", 0) > 0


def working_set_bytes(group: str) -> int:
    """Its memory without the cached files that the kernel would drop first."""
    used = int(_file("memory", group, _either("memory.current", "memory.usage_in_bytes")) or 0)
    stat = _entries(_file("memory", group, "memory.stat"))
    return max(used - stat.get(_either("inactive_file", "total_inactive_file"), 0), 0)


def cpu_ns(group: str) -> int:
    """The processor time that it has used."""
    if _UNIFIED:
        return _entries(_file("cpu", group, "cpu.stat")).get("usage_usec", 0) * 1000
    return int(_file("cpuacct", group, "cpuacct.usage") or 0)


def _either(unified: str, legacy: str) -> str:
    return unified if _UNIFIED else legacy


def _file(controller: str, group: str, name: str) -> str:
    """Its content; empty if the group has gone."""
    top = _TOP if _UNIFIED else _TOP / controller
    try:
        return (top / group.strip("/") / name).read_text()
    except FileNotFoundError:
        return ""


def _entries(text: str) -> dict[str, int]:
    lines = [line.split() for line in text.splitlines()]
    return {line[0]: int(line[1]) for line in lines if len(line) == 2}


async def succeeds(probe: Manifest, container: Manifest, address: str) -> bool:
    """Tries a TCP or HTTP probe once."""
    try:
        async with asyncio.timeout(probe["timeoutSeconds"]):
            if (http := probe.get("httpGet")) is not None:
                url = f"http://{address}:{port_of(http['port'], container)}{http.get('path', '/')}"
                async with aiohttp.ClientSession() as session, session.get(url) as answer:
                    return 200 <= answer.status < 400
            port = port_of(probe["tcpSocket"]["port"], container)
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return True
    except (OSError, TimeoutError, aiohttp.ClientError):
        return False


def port_of(port: str | int, container: Manifest) -> int:
    """A container's port by its name or number."""
    if isinstance(port, int):
        return port
    ports = container.get("ports", [])
    return int(next(p["containerPort"] for p in ports if p.get("name") == port))


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = "CHOWN DAC_OVERRIDE FSETID FOWNER SETGID SETUID SETPCAP NET_BIND_SERVICE KILL"
_MASKED = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/sys/firmware")


class NotStarted(Exception):
    """The container can't begin; the message is the runtime's."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    exit_code: int
    out_of_memory: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the pod's manifest and its image say about a container."""

    container: Manifest
    of_pod: Manifest  # its securityContext
    image: Image
    environment: Mapping[str, str]
    volumes: Mapping[str, Path]
    host_name: str
    last_words: Path  # the file for the container's termination message

    @property
    def context(self) -> Manifest:
        shared = {k: v for k, v in self.of_pod.items() if k.startswith("runAs")}
        return {**shared, **self.container.get("securityContext", {})}

    @property
    def user(self) -> tuple[int, int]:
        """Raises NotStarted if it must not be root, and is."""
        of_image, _, group = str(self.image.config.get("User") or "0").partition(":")
        uid = self.context.get("runAsUser", int(of_image) if of_image.isdigit() else 0)
        if uid == 0 and self.context.get("runAsNonRoot"):
            raise NotStarted("container has runAsNonRoot and image will run as root")
        return uid, self.context.get("runAsGroup", int(group) if group.isdigit() else 0)

    @property
    def arguments(self) -> list[str]:
        config = self.image.config
        command = self.container.get("command") or config.get("Entrypoint") or []
        own = [] if self.container.get("command") else config.get("Cmd") or []
        words = [*command, *(self.container.get("args") or own)]
        return [_expanded(word, self.environment) for word in words]

    @property
    def variables(self) -> dict[str, str]:
        of_image = dict(entry.split("=", 1) for entry in self.image.config.get("Env") or [])
        return {"PATH": _PATH, "HOSTNAME": self.host_name, **of_image, **self.environment}


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """With the variables that it names as `$(NAME)`; `$$` is a dollar sign."""

    def replaced(found: re.Match[str]) -> str:
        whole = found[0]
        return "$" if whole == "$$" else environment.get(whole[2:-1], whole)

    return re.sub(r"\$\$|\$\([^)]*\)", replaced, text)


def specification(settings: Settings, *, root: Path, sandbox: Sandbox, group: str) -> Manifest:
    """The OCI runtime's configuration of a container."""
    uid, gid = settings.user
    context = settings.context
    dropped = context.get("capabilities", {}).get("drop", [])
    kept = [] if "ALL" in dropped else [f"CAP_{name}" for name in _CAPABILITIES.split()]
    groups_of_pod = [settings.of_pod["fsGroup"]] if "fsGroup" in settings.of_pod else []
    working = settings.container.get("workingDir") or settings.image.config.get("WorkingDir")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": uid, "gid": gid, "additionalGids": groups_of_pod},
            "args": settings.arguments,
            "env": [f"{name}={value}" for name, value in settings.variables.items()],
            "cwd": working or "/",
            "capabilities": {"bounding": kept, "effective": kept, "permitted": kept},
            "noNewPrivileges": context.get("allowPrivilegeEscalation") is False,
        },
        "root": {"path": str(root), "readonly": bool(context.get("readOnlyRootFilesystem"))},
        "mounts": [*_system_mounts(), *_mounts(settings)],
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "mount"},
                {"type": "network", "path": sandbox.namespace("net")},
                {"type": "ipc", "path": sandbox.namespace("ipc")},
                {"type": "uts", "path": sandbox.namespace("uts")},
            ],
            "cgroupsPath": group,
            "sysctl": {it["name"]: it["value"] for it in settings.of_pod.get("sysctls", ())},
            "resources": _resources(settings.container["resources"]),
            **_seccomp(context.get("seccompProfile") or settings.of_pod.get("seccompProfile")),
            "maskedPaths": list(_MASKED),
            "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
        },
    }


def _seccomp(profile: Mapping[str, str] | None) -> Manifest:
    """A filter that is there, and refuses little."""
    if not profile or profile["type"] == "Unconfined":
        return {}
    refused = {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}
    return {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}}


def _system_mounts() -> list[Manifest]:
    def mount(at: str, kind: str, *options: str) -> Manifest:
        return {"destination": at, "type": kind, "source": kind, "options": list(options)}

    return [
        mount("/proc", "proc", "nosuid", "noexec", "nodev"),
        mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666"),
        mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ]


def _mounts(settings: Settings) -> list[Manifest]:
    def bind(source: Path, at: str, *, read_only: bool) -> Manifest:
        options = ["rbind", "nosuid", "nodev", "ro" if read_only else "rw"]
        return {"destination": at, "type": "bind", "source": str(source), "options": options}

    found = [bind(path, at, read_only=True) for at, path in settings.image.binds.items()]
    found.append(bind(Path("/etc/resolv.conf").resolve(), "/etc/resolv.conf", read_only=True))
    message = settings.container["terminationMessagePath"]
    found.append(bind(settings.last_words, message, read_only=False))
    for mount in settings.container.get("volumeMounts", []):
        source = settings.volumes[mount["name"]] / mount.get("subPath", "")
        found.append(bind(source, mount["mountPath"], read_only=mount.get("readOnly", False)))
    return found


def _resources(resources: Manifest) -> dict[str, Any]:
    limits, made = resources.get("limits", {}), {}
    if "memory" in limits:
        memory = int(number(limits["memory"]))
        made["memory"] = {"limit": memory, "swap": memory}
    if "cpu" in limits:
        made["cpu"] = {"period": 100_000, "quota": int(number(limits["cpu"]) * 100_000)}
    return made


@dataclass
class Run:
    """A container that runs; `directory` and `group` are its own."""

    directory: Path
    group: str
    log: ContainerLog
    process: asyncio.subprocess.Process | None = None
    pid: int = 0
    began: float = field(default_factory=time.monotonic)
    _collecting: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def cpu_nanocores(self) -> int:
        """How many billionths of a core it has used since its start, on average."""
        return int(cpu_ns(self.group) / (time.monotonic() - self.began))

    @property
    def name(self) -> str:
        return self.group.strip("/").replace("/", "-")

    async def start(self, settings: Settings, sandbox: Sandbox) -> None:
        """Raises NotStarted."""
        root = self.directory / "root"
        for path in (root, self.directory / "upper", self.directory / "work"):
            path.mkdir(parents=True)
        made = specification(settings, root=root, sandbox=sandbox, group=self.group)
        (self.directory / "config.json").write_text(json.dumps(made))
        layers = f"lowerdir={settings.image.root},upperdir={self.directory}/upper"
        options = f"{layers},workdir={self.directory}/work"
        await run("mount", "-t", "overlay", "-o", options, "overlay", str(root))
        self.process = await asyncio.create_subprocess_exec(
            *self._runc("run", "--keep", "--pid-file", f"{self.directory}/pid"),
            *("--bundle", str(self.directory), self.name),
            stdin=asyncio.subprocess.DEVNULL,
            limit=1 << 20,  # of one line
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        outputs = (self.process.stdout, self.process.stderr)
        self._collecting = asyncio.create_task(self.log.collect(*outputs))
        await self._wait_for_pid()

    async def _wait_for_pid(self) -> None:
        assert self.process is not None
        file = self.directory / "pid"
        while not (file.exists() and file.read_text()):
            if self.process.returncode is not None:
                await self.remove()
                raise NotStarted(self._said())
            await asyncio.sleep(0.005)
        self.pid = int(file.read_text())

    def _said(self) -> str:
        """Why runc has not started it."""
        try:
            lines = (self.directory / "runc.log").read_text().splitlines()
            return str(json.loads(lines[-1])["msg"])
        except (OSError, IndexError, ValueError):
            return "it ended at once"

    def _runc(self, *words: str) -> tuple[str, ...]:
        log = f"{self.directory}/runc.log"
        root = f"{self.directory.parents[1]}/runc"
        return ("runc", "--root", root, "--log", log, "--log-format", "json", *words)

    async def wait(self) -> Ended:
        """Waits for its end, and removes what it leaves, the log aside."""
        assert self.process is not None
        code = await self.process.wait()
        killed = out_of_memory(self.group)
        await self.remove()
        return Ended(exit_code=code, out_of_memory=killed)

    async def kill(self) -> None:
        """Ends it by force, also while it starts."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            with suppress(RuntimeError):  # it was never made
                await run(*self._runc("delete", "--force", self.name))
            await self.process.wait()
        await self.remove()

    async def remove(self) -> None:
        if self._collecting is not None:
            await self._collecting
        self.log.end()
        with suppress(RuntimeError):  # it was never made
            await run(*self._runc("delete", "--force", self.name))
        if (self.directory / "root").is_mount():
            await run("umount", str(self.directory / "root"))

    async def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its first process, if it runs."""
        with suppress(RuntimeError):  # it has just ended
            await run(*self._runc("kill", self.name, str(int(number))))
