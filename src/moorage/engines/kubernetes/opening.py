"""Connects an engine to its cluster, and checks what it must be allowed there."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeAlias

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.claims import Claims
from moorage.engines.kubernetes.cluster.client import Cluster, read_configuration
from moorage.engines.kubernetes.cluster.namespaces import PULL_SECRET, Namespaces
from moorage.engines.kubernetes.cluster.observed import Observed
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.namespace import Networks, Quota
from moorage.engines.kubernetes.objects.permissions import Question, questions, sentences
from moorage.engines.kubernetes.objects.pod import PodOptions
from moorage.engines.kubernetes.running.output import POSITION, Followers
from moorage.engines.kubernetes.self_test import Trial
from moorage.engines.logs.shared import SharedLogs
from moorage.errors import ConfigurationInvalid, IsolationMissing
from moorage.loop import Keeps, always


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
    _require("deny_networks", configuration.deny, ip_network)
    _require("kubernetes_gateway_networks", options.gateway_networks, ip_network)
    _require("kubernetes_resolvers", options.resolvers, ip_address)
    return Networks(
        gateway_namespace=options.gateway_namespace,
        gateway_networks=options.gateway_networks,
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
        raise ConfigurationInvalid(f"kubernetes_credentials: pull.json: {error}") from error


_ASKED_AT_ONCE = 8

MakeBuilder: TypeAlias = Callable[[Cluster], AbstractAsyncContextManager[ImageBuilder]]


def connected(
    configuration: HostConfiguration,
    options: ClusterOptions,
    *,
    keeps: Keeps | None,
    on_pod: Callable[[Pod | None, Pod | None], None],
) -> Shared:
    """Returns the connection, which has asked nothing yet, and what is built on it.

    With `keeps`, this gateway writes the logs of apps. Raises ConfigurationInvalid.
    """
    docker_config, clock = pull_config(options), configuration.clock
    logs = SharedLogs(
        configuration.state_dir / configuration.folder,
        clock,
        store=configuration.content,
        copies=configuration.state_dir / f"{configuration.folder}-copies",
        writes=keeps is not None,
        beside=POSITION,
    )
    found = read_configuration(options.config)
    cluster = Cluster(found, keeps=keeps or always)
    observed = Observed(cluster, instance=options.prefix, clock=clock, on_pod=on_pod)
    return Shared(
        cluster=cluster,
        observed=observed,
        namespaces=Namespaces(
            cluster,
            prefix=options.prefix,
            quota=quota(options),
            networks=networks(options, configuration),
            docker_config=docker_config,
            clock=clock,
        ),
        claims=Claims(
            cluster, instance=options.prefix, storage_class=options.storage_class, clock=clock
        ),
        followers=Followers(cluster, clock, logs),
        logs=logs,
        pods=pod_options(options, configuration),
        clock=clock,
    )


def trial_of(configuration: HostConfiguration, options: ClusterOptions) -> Trial:
    """Returns the self-test of a gateway."""
    return Trial(
        prefix=options.prefix,
        image=options.own_image,
        networks=networks(options, configuration),
        options=pod_options(options, configuration),
        docker_config=pull_config(options),
    )


async def missing_permissions(cluster: Cluster) -> list[str]:
    """Returns a sentence for each resource with which the gateway may not do what it must."""
    places = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def lacks(question: Question) -> bool:
        async with places:
            return not await cluster.allows(question.review())

    asked = list(questions())
    lacking = await asyncio.gather(*map(lacks, asked))
    refused = [it for it, lacks_it in zip(asked, lacking, strict=True) if lacks_it]
    return [f"the gateway's account {it}" for it in sentences(refused)]


async def require_permissions(cluster: Cluster) -> None:
    """Raises IsolationMissing with a sentence for each permission that the gateway lacks."""
    if missing := await missing_permissions(cluster):
        raise IsolationMissing(tuple(missing))
