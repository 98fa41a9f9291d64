"""What the tests of apps share, whichever gateway they run on."""

from busy_app import busy_name, wallet

__all__ = ["busy_name", "wallet"]
