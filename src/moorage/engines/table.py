"""Lists the engines. To add one, make a folder with a `KIND`, and add it here."""

from moorage.engines.docker.kind import KIND as DOCKER
from moorage.engines.kind import EngineKind
from moorage.engines.kubernetes.kind import KIND as KUBERNETES
from moorage.engines.rootless.kind import KIND as ROOTLESS
from moorage.engines.sandbox.kind import KIND as SANDBOX
from moorage.errors import ConfigurationInvalid

ENGINES: tuple[EngineKind, ...] = (SANDBOX, ROOTLESS, DOCKER, KUBERNETES)
"""`auto` takes the first one that suits."""


def engine_kind(name: str, *, setting: str = "isolation") -> EngineKind:
    """Returns the kind with this name; `auto` chooses one.

    Raises ConfigurationInvalid, which names the setting that the name comes from.
    """
    for kind in ENGINES:
        if name == kind.name or (name == "auto" and kind.suits()):
            return kind
    names = ", ".join(["auto", *(kind.name for kind in ENGINES)])
    raise ConfigurationInvalid(f"{setting} must be one of {names}")
