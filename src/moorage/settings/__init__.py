"""Everything an operator can set."""

from moorage.settings.described import OF_ONE_GATEWAY, chain_named, described, of_another, recorded
from moorage.settings.loading import ENV_PREFIX, load_settings, origins, tables
from moorage.settings.settings import Settings

__all__ = [
    "ENV_PREFIX",
    "OF_ONE_GATEWAY",
    "Settings",
    "chain_named",
    "described",
    "load_settings",
    "of_another",
    "origins",
    "recorded",
    "tables",
]
