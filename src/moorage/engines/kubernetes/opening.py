"""Connects an engine to its cluster, and checks what it must be allowed there."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeAlias

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.client import Cluster, read_configuration
from moorage.engines.kubernetes.cluster.namespaces import PULL_SECRET, Claims, Namespaces
from moorage.engines.kubernetes.cluster.observed import Observed
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.namespace import Networks, Quota
from moorage.engines.kubernetes.objects.pod import Manifest, PodOptions
from moorage.engines.kubernetes.running.output import POSITION, Followers
from moorage.engines.kubernetes.self_test import Trial
from moorage.engines.logs.shared import SharedLogs
from moorage.errors import ConfigurationInvalid, IsolationMissing
from moorage.loop import Keeps, always


@dataclass(frozen=True)
class Rule:
    """What may be done with one resource of an API group, in all namespaces."""

    group: str  # "" is the core group
    resource: str  # `pods/log` for a subresource
    verbs: tuple[str, ...]
    why: str  # what the gateway can't do without it


_APPLY = ("create", "patch")  # server-side apply: `create` where the object is not there yet
_FOLLOW = ("list", "watch")

RULES: tuple[Rule, ...] = (
    Rule("", "namespaces", ("get", "list", *_APPLY, "delete"), "give each wallet a namespace"),
    Rule("", "resourcequotas", _APPLY, "bound what a wallet has"),
    Rule("", "limitranges", _APPLY, "bound what a container has"),
    Rule(
        "networking.k8s.io",
        "networkpolicies",
        _APPLY,
        "keep apps from each other and from private networks",
    ),
    Rule("", "secrets", (*_APPLY, "delete"), "give apps their variables"),
    Rule("apps", "deployments", ("get", *_APPLY, "delete"), "run apps"),
    Rule("", "services", (*_APPLY, "delete"), "have the cluster say where apps are ready"),
    Rule("discovery.k8s.io", "endpointslices", _FOLLOW, "learn where apps are ready"),
    Rule(
        "",
        "pods",
        ("get", *_FOLLOW, *_APPLY, "delete"),
        "test the isolation, read and write volumes, and learn how apps end",
    ),
    Rule("", "pods/log", ("get",), "keep what apps print"),
    Rule("", "configmaps", (*_FOLLOW, *_APPLY, "delete"), "remember what was built"),
    Rule("", "persistentvolumeclaims", ("get", "list", *_APPLY, "delete"), "keep apps' volumes"),
    Rule(
        "",
        "nodes",
        ("list",),
        "know how much memory there is for apps, and which kernel is a node's own",
    ),
    Rule("metrics.k8s.io", "pods", ("list",), "know what apps use"),
)


@dataclass(frozen=True, kw_only=True)
class Question:
    """One verb that the gateway needs."""

    rule: Rule
    verb: str

    def review(self) -> Manifest:
        """The body of `POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews`."""
        resource, _, subresource = self.rule.resource.partition("/")
        attributes = {"group": self.rule.group, "resource": resource, "verb": self.verb}
        if subresource:
            attributes["subresource"] = subresource
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }


def questions() -> Iterator[Question]:
    """Yields everything to ask the API server."""
    for rule in RULES:
        yield from (Question(rule=rule, verb=verb) for verb in rule.verbs)


def sentences(refused: Iterable[Question]) -> list[str]:
    """Returns for each resource what the gateway may not do with it, and what for it would."""
    verbs: dict[Rule, list[str]] = {}
    for question in refused:
        verbs.setdefault(question.rule, []).append(question.verb)
    return [
        f"may not {', '.join(of_rule)} {_full_name(rule)}, to {rule.why}"
        for rule, of_rule in verbs.items()
    ]


def _full_name(rule: Rule) -> str:
    return f"{rule.resource}.{rule.group}" if rule.group else rule.resource


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
    if not (options.gateway_namespace or options.gateway_networks):  # a rule for nobody admits all
        raise ConfigurationInvalid(
            "kubernetes_gateway_networks: a gateway outside the cluster needs the networks from "
            "which it connects to apps"
        )
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
