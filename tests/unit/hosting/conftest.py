"""What the tests of deciding on and carrying out deployments share."""

from gate import gate
from yard import project, yard

__all__ = ["gate", "project", "yard"]
