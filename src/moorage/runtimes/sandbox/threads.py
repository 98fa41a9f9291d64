"""Blocking work of the sandbox: see `moorage.threads`."""

from moorage.threads import in_thread, to_its_end

__all__ = ["in_thread", "to_its_end"]
