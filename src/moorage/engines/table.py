"""The engines there are. To add one: its folder, with a `KIND`, and its line here."""

from moorage.engines.kind import EngineKind
from moorage.engines.rootless.kind import KIND as ROOTLESS
from moorage.engines.sandbox.kind import KIND as SANDBOX
from moorage.errors import ConfigurationInvalid

ENGINES = (SANDBOX, ROOTLESS)
"""Of those that suit, `auto` takes the first."""


def engine_kind(isolation: str) -> EngineKind:
    """The kind that is called so; `auto` chooses one. Raises ConfigurationInvalid."""
    for kind in ENGINES:
        if isolation == kind.name or (isolation == "auto" and kind.suits()):
            return kind
    names = ", ".join(["auto", *(kind.name for kind in ENGINES)])
    raise ConfigurationInvalid(f"isolation must be one of {names}")
