"""The engine of a gateway that is root: sandboxes on this machine, no Docker."""
