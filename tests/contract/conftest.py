"""What the tests of proxy and runtimes share."""

from gateway_process import gateway
from harbour import address, app, client, directory, harbour, lone_harbour

__all__ = ["address", "app", "client", "directory", "gateway", "harbour", "lone_harbour"]
