"""How much of the network's connections and bandwidth one app, or one visitor, may take."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The operator's limits; 0 is no limit, but of `app_connections`."""

    app_connections: int = 1024  # that an app's socket proxy takes at once
    app_new_connections: int = 0  # that an app may begin in a second
    app_bandwidth_mbit: int = 0  # megabits a second, each way
    visitor_connections: int = 0  # of one address at the proxy
    proxy_ports: tuple[int, ...] = ()  # where visitors come
    trusted_proxies: tuple[str, ...] = ()  # networks that come for many visitors
