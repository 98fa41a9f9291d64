"""Everything an operator can set."""

from moorage.settings.loading import ENV_PREFIX, load_settings, tables
from moorage.settings.settings import Settings

__all__ = ["ENV_PREFIX", "Settings", "load_settings", "tables"]
