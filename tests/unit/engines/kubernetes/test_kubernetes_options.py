"""What the engine makes of the operator's settings for a cluster."""

from dataclasses import replace
from pathlib import Path

import pytest

from moorage.engines.engine import Limits
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.opening import networks, pod_options
from moorage.errors import ConfigurationInvalid

LIMITS = Limits(memory_bytes=1, cpu_millis=1, pids=1, disk_bytes=1)
HERE = HostConfiguration(
    state_dir=Path("/state"), run_dir=Path("/run/x"), instance_id="a", tools={}, deny=("9.0.0.0/8",)
)


def options(
    *,
    resolvers: tuple[str, ...] = (),
    gateway_networks: tuple[str, ...] = (),
) -> ClusterOptions:
    return ClusterOptions(
        app=LIMITS,
        build=LIMITS,
        apps_per_wallet=1,
        config="",
        prefix="moorage",
        registry="registry.example",
        registry_credentials="",
        pull_credentials="",
        builder="unix:///builder",
        builder_certificates="",
        own_image="moorage",
        runtime_class="gvisor",
        user_namespaces=True,
        storage_class="",
        resolvers=resolvers,
        gateway_namespace="moorage",
        gateway_networks=gateway_networks,
    )


def test_pods_and_their_policies_have_the_operators_resolvers_and_networks() -> None:
    chosen = options(resolvers=("9.9.9.9",))
    assert pod_options(chosen, HERE).resolvers == ("9.9.9.9",)
    found = networks(chosen, replace(HERE, deny=("203.0.113.0/24",)))
    assert (found.resolvers, found.deny) == (("9.9.9.9",), ("203.0.113.0/24",))


@pytest.mark.parametrize(
    ("chosen", "denied", "setting"),
    [
        (options(), ("10.0.0.1/8",), "deny_networks"),
        (options(gateway_networks=("gateway.example",)), (), "kubernetes_gateway_networks"),
        (options(resolvers=("9.9.9.0/24",)), (), "kubernetes_resolvers"),
    ],
    ids=["networks", "gateway-networks", "resolvers"],
)
def test_what_is_no_network_or_address_is_refused_by_its_setting(
    chosen: ClusterOptions, denied: tuple[str, ...], setting: str
) -> None:
    with pytest.raises(ConfigurationInvalid, match=setting):
        networks(chosen, replace(HERE, deny=denied))
