"""The limits on connections and bandwidth of one app."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The operator's limits; 0 means no limit, except for `app_connections`."""

    app_connections: int = 1024  # to an app's socket proxy at the same time
    app_new_connections: int = 0  # that an app may open per second
    app_bandwidth_mbit: int = 0  # megabits per second, each way
