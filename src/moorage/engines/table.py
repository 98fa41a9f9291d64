"""Lists the engines. To add one, make a folder with a `KIND`, and add it here."""

from moorage.engines.docker.kind import KIND as DOCKER
from moorage.engines.kind import EngineKind
from moorage.engines.kubernetes.kind import KIND as KUBERNETES
from moorage.engines.sandbox.kind import KIND as SANDBOX
from moorage.errors import ConfigurationInvalid

ENGINES: tuple[EngineKind, ...] = (SANDBOX, DOCKER, KUBERNETES)
"""`auto` is the first one."""


def engine_kind(name: str, *, setting: str = "isolation") -> EngineKind:
    """Returns the kind with this name, or the first for `auto`.

    Raises ConfigurationInvalid, which names the setting that the name comes from.
    """
    for kind in ENGINES:
        if name in (kind.name, "auto"):
            return kind
    names = ", ".join(["auto", *(kind.name for kind in ENGINES)])
    raise ConfigurationInvalid(f"{setting} must be one of {names}")
