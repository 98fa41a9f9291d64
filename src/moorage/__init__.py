"""Moorage: a self-hosted gateway where an agent deploys an app by paying for it.

from moorage import deploy  # the library's one call; more is in `moorage.sdk`
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moorage.sdk.app import deploy, deploy_async

__version__ = "0.1.0"
__all__ = ["deploy", "deploy_async"]

if not TYPE_CHECKING:  # which would take any name for one of this module

    def __getattr__(name: str) -> object:
        """Loads the library when it is first asked for: that takes 0.3 s."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from moorage.sdk import app  # noqa: PLC0415

        return getattr(app, name)
