"""What the tests of carrying out deployments share."""

from yard import project, yard

__all__ = ["project", "yard"]
