"""What goes into a build, and what its pod is asked to do. Pure but for a look at certificates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from moorage.engines.engine import BuildSpec
from moorage.engines.images.layer import Place
from moorage.engines.images.manifest import RunConfiguration
from moorage.engines.images.recipe import (
    APP,
    IMAGES_PATH,
    SHELL,
    TOOLCHAINS,
    TOOLS,
    UID,
    USER,
    Program,
    Recipe,
    step_environment,
)
from moorage.engines.isolation.bubblewrap import CERTIFICATES, HOME
from moorage.engines.kubernetes.building.exchange import Tickets
from moorage.engines.kubernetes.building.registry.image_store import StoredImage
from moorage.engines.kubernetes.building.registry.images import StoredBase
from moorage.engines.kubernetes.objects import Build, Step
from moorage.engines.kubernetes.objects.build import (
    BUILD,
    INSTALL,
    INSTALL_URL,
    RESULT_URL,
    SOURCE_URL,
)
from moorage.engines.kubernetes.running.variables import require_short
from moorage.errors import FailureCause

_FETCH = ("python3", "-m", "moorage.engines.kubernetes.building.pod.fetch")
_KEEP = ("python3", "-m", "moorage.engines.kubernetes.building.pod.keep")
_PACK = ("python3", "-m", "moorage.engines.kubernetes.building.pod.pack")
_TRUST = "/opt/moorage/certificates.crt"  # the gateway's, for builds
_BORROWED = "/opt/moorage/programs"  # those of other images than the base


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """What one build is made of."""

    spec: BuildSpec
    recipe: Recipe
    base: StoredBase
    others: Mapping[str, StoredBase]  # the images of the recipe's other programs
    build_env: Mapping[str, str]  # the operator's
    key: str = ""  # by which what is installed is kept; "": it is not
    installed: StoredImage | None = None  # what an earlier build has installed

    @property
    def steps(self) -> list[Step]:
        """The commands to run; none if nothing is to be run, or was run by an earlier build."""
        install = None if self.installed else self.spec.plan.install
        named = ((INSTALL, install), (BUILD, self.spec.plan.build))
        return [Step(name=name, command=command) for name, command in named if command]

    @property
    def files(self) -> Place:
        """The upload."""
        return Place(self.spec.source.resolve(), APP.strip("/"), UID)

    @property
    def programs(self) -> list[Place]:
        """What the gateway itself puts beside the files."""
        tools, toolchains = self.recipe.tools, self.recipe.toolchains
        return [
            *(Place(path, f"{TOOLS}/{name}".strip("/")) for name, path in tools.items()),
            *(Place(path, f"{TOOLCHAINS}/{name}".strip("/")) for name, path in toolchains.items()),
        ]

    @property
    def certificates(self) -> list[Place]:
        """Whom the gateway's machine trusts, for the build."""
        file = Path(CERTIFICATES)
        return [Place(file.resolve(), _TRUST.strip("/"))] if file.exists() else []

    @property
    def run(self) -> RunConfiguration:
        """How the app runs."""
        return RunConfiguration(
            user=USER,
            environment={**self._environment, **self.recipe.app_environment},
            directory=self.recipe.directory,
            command=(*SHELL, self.spec.plan.start),
        )

    @property
    def _environment(self) -> dict[str, str]:
        found = dict(self.recipe.environment)
        borrowed = (_search(name, it) for name, it in self.recipe.others.items())
        return {**found, "PATH": ":".join((found["PATH"], *borrowed))}

    def pod(self, tickets: Tickets, *, namespace: str, own_image: str) -> Build:
        """Returns what the pod is asked to do. Raises DeployFailed for too many variables."""
        spec, installed = self.spec, [APP, HOME]
        places = [*installed, *([_BORROWED] if self.others else [])]
        bounds = (str(spec.limits.disk_bytes), str(UID))
        keeps = bool(self.key) and self.installed is None
        return Build(
            deployment_id=spec.deployment_id,
            owner=spec.owner,
            namespace=namespace,
            own_image=own_image,
            image=str(self.base.stored),
            directory=spec.plan.directory,
            steps=[*self._borrowing(), *self.steps],
            fetch=(*_FETCH, SOURCE_URL, "/", *installed),
            keep=(*_KEEP, INSTALL_URL, *bounds, *installed) if keeps else (),
            pack=(*_PACK, RESULT_URL, *bounds, *places),
            installed=str(self.installed.stored) if self.installed else "",
            source_url=tickets.source_url,
            result_url=tickets.result_url,
            install_url=tickets.install_url,
            limits=spec.limits,
            timeout_seconds=spec.timeout_seconds,
            environment=self._variables(),
        )

    def _borrowing(self) -> Iterator[Step]:
        """Yields the steps that take programs out of other images."""
        for name, program in self.recipe.others.items():
            yield Step(
                name=f"program-{name}",
                command=_copying(name, program),
                image=str(self.others[name].stored),
                writes_tools=True,
            )

    def _variables(self) -> dict[str, str]:
        found = {**self._environment, **step_environment(self.spec, self.build_env)}
        require_short(found, setting="settings.buildVars", cause=FailureCause.BUILD_FAILED)
        return {name: _TRUST if it == CERTIFICATES else it for name, it in found.items()}


def _copying(name: str, program: Program) -> str:
    """Returns the command that takes a program, a directory or a file, out of its own image."""
    place, target = quote(program.place), quote(f"{_BORROWED}/{name}")
    return (
        f"mkdir -p {target} && if [ -d {place} ]; then cp -R {place}/. {target}/; "
        f"else mkdir -p {target}/bin && cp {place} {target}/bin/; fi"
    )


def _search(name: str, program: Program) -> str:
    """Returns the directory with a borrowed program."""
    inside = (it.removeprefix(program.place) for it in IMAGES_PATH if it.startswith(program.place))
    return f"{_BORROWED}/{name}{next(inside, '/bin')}"
