"""What the engine makes of the operator's settings."""

from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.namespaces import PULL_SECRET
from moorage.engines.kubernetes.objects.namespace import Quota
from moorage.engines.kubernetes.objects.network import Networks
from moorage.engines.kubernetes.objects.pod import PodOptions
from moorage.errors import ConfigurationInvalid


def pod_options(options: ClusterOptions, configuration: HostConfiguration) -> PodOptions:
    """Returns what is the same for all pods."""
    return PodOptions(
        instance=options.prefix,
        runtime_class=options.runtime_class,
        pull_secret=PULL_SECRET if options.pull_credentials else "",
        user_namespaces=options.user_namespaces,
        resolvers=options.resolvers,
        stop_seconds=round(configuration.stop_grace_seconds),
    )


def networks(options: ClusterOptions, configuration: HostConfiguration) -> Networks:
    """Returns where pods may connect, and who may connect to them. Raises ConfigurationInvalid."""
    _require("kubernetes_networks", options.networks, ip_network)
    _require("kubernetes_gateway_networks", options.gateway_networks, ip_network)
    _require("kubernetes_resolvers", options.resolvers, ip_address)
    return Networks(
        gateway_namespace=options.gateway_namespace,
        gateway_networks=options.gateway_networks,
        cluster=options.networks,
        deny=configuration.deny,
        allow=configuration.allow,
        resolvers=options.resolvers,
    )


def _require(setting: str, values: Iterable[str], parse: Callable[[str], object]) -> None:
    for value in values:
        try:
            parse(value)
        except ValueError as error:
            raise ConfigurationInvalid(f"{setting}: {error}") from error


def quota(options: ClusterOptions) -> Quota:
    """Returns what a wallet may have at the same time."""
    return Quota(
        apps=options.apps_per_wallet,
        app=options.app,
    )


def pull_config(options: ClusterOptions) -> str:
    """Returns the text by which nodes fetch images; "" if they need none.

    Raises ConfigurationInvalid.
    """
    if not options.pull_credentials:
        return ""
    try:
        return Path(options.pull_credentials).read_text()
    except OSError as error:
        raise ConfigurationInvalid(f"kubernetes_pull_credentials: {error}") from error
