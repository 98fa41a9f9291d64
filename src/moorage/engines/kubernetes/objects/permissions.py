"""What the gateway may do in a cluster: `moorage check` asks, and `ops/kubernetes` grants it.

It makes namespaces as wallets come, so its permissions are for the whole cluster; the admission
policy of `ops/kubernetes` confines what it writes to its own namespaces. It reads no Secret.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from moorage.engines.kubernetes.objects.pod import Manifest


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
