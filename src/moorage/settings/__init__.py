"""Everything an operator can set."""

from moorage.settings.loading import (
    ENV_PREFIX,
    OF_ONE_GATEWAY,
    chain_named,
    described,
    load_settings,
    needed_first,
    of_another,
    origins,
    recorded,
    tables,
)
from moorage.settings.settings import Settings

__all__ = [
    "ENV_PREFIX",
    "OF_ONE_GATEWAY",
    "Settings",
    "chain_named",
    "described",
    "load_settings",
    "needed_first",
    "of_another",
    "origins",
    "recorded",
    "tables",
]
