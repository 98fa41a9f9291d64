"""Connects an engine to its cluster, and checks what it must be allowed there."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.claims import Claims
from moorage.engines.kubernetes.cluster.client import Cluster, read_configuration
from moorage.engines.kubernetes.cluster.namespaces import Namespaces
from moorage.engines.kubernetes.cluster.observed import Observed
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.permissions import Question, questions, sentences
from moorage.engines.kubernetes.options import networks, pod_options, pull_config, quota
from moorage.engines.kubernetes.running.output import POSITION, Followers
from moorage.engines.kubernetes.self_test import Trial
from moorage.engines.logs.shared import SharedLogs
from moorage.errors import IsolationMissing
from moorage.loop import Keeps, always

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
