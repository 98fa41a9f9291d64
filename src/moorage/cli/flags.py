"""The flags that say how an app is built and run: those of `moorage deploy` and `moorage plan`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
from cyclopts import Parameter

from moorage.cli.variables import VariableReader
from moorage.sdk.request import Settings


@Parameter(name="*", group="App")
@dataclass(frozen=True, kw_only=True)
class AppFlags:
    """What a person may say about an app beside its files."""

    directory: Annotated[
        str | None, Parameter(help="The app's directory below DIRECTORY, in a monorepo")
    ] = None
    runtime: Annotated[
        str | None, Parameter(help="Language, such as node:22 or python, if the files don't say")
    ] = None
    framework: Annotated[
        str | None, Parameter(help="Framework, such as next, if the files leave it open")
    ] = None
    dockerfile: Annotated[bool, Parameter(help="Build what its Dockerfile says", negative=())] = (
        False
    )
    install: Annotated[
        str | None, Parameter(help="Command that installs dependencies, if not the usual one")
    ] = None
    build: Annotated[str | None, Parameter(help="Command that builds, if not the usual one")] = None
    build_dir: Annotated[
        str | None, Parameter(help="Directory to serve, of a static site or left by the build")
    ] = None
    run: Annotated[
        str | None, Parameter(help="Command that starts the app, if not the usual one")
    ] = None
    port: Annotated[int | None, Parameter(help="Port the app listens on (it is told as PORT)")] = (
        None
    )
    health_path: Annotated[
        str | None, Parameter(help="Path that must answer below 500 before it is served; /")
    ] = None
    volume: Annotated[
        bool, Parameter(help="Give it a /data that outlives its versions", negative=())
    ] = False
    env: Annotated[
        list[str] | None,
        Parameter(
            help="Variable of the app: NAME=VALUE; for secrets, which shells keep in their "
            "history, NAME=@FILE, NAME=- (standard input), or NAME (from your environment)",
            negative=(),
        ),
    ] = None
    build_env: Annotated[
        list[str] | None, Parameter(help="Variable of its build, in the same ways", negative=())
    ] = None

    def settings(self, reader: VariableReader) -> Settings:
        """The settings of the request. Raises ClientMisconfigured for a variable without value."""
        return Settings(
            port=self.port,
            runtime=self.runtime,
            install_command=self.install,
            build_command=self.build,
            run_command=self.run,
            framework=self.framework,
            has_dockerfile=self.dockerfile,
            directory_path=self.directory,
            build_dir=self.build_dir,
            run_envs=reader.read(self.env or (), of="--env") or None,
            build_vars=reader.read(self.build_env or (), of="--build-env") or None,
            health_path=self.health_path,
            volume=self.volume,
        )


NO_FLAGS = AppFlags()

_NAMED_OTHERWISE = {
    "hasDockerfile": "--dockerfile",
    "directoryPath": "--directory",
    "installCommand": "--install",
    "buildCommand": "--build",
    "runCommand": "--run",
    "runEnvs": "--env",
    "buildVars": "--build-env",
}


def setting_flags() -> Iterable[tuple[str, str]]:
    """Pairs of a setting, as the contract names it, and its flag."""
    for field in msgspec.structs.fields(Settings):
        default = "--" + field.name.replace("_", "-")
        yield field.encode_name, _NAMED_OTHERWISE.get(field.encode_name, default)
