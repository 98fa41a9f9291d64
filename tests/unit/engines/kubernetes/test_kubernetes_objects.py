"""What the objects of a cluster must be, whatever their golden files say."""

import json
import os
from base64 import b64decode
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from sample_objects import (
    APP_LIMITS,
    DEPLOYMENT,
    INSIDE,
    OUTSIDE,
    OWNER,
    PLAIN,
    SAMPLES,
    STRICT,
    VOLUME,
    app,
    containers,
    namespaced,
    pod_specs,
)

from moorage.engines.engine import Limits
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.objects.app import app_objects
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTANCE_LABEL,
    OWNER_ANNOTATION,
    VOLUME_LABEL,
    wallet_namespace,
)
from moorage.engines.kubernetes.objects.namespace import Networks
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.engines.kubernetes.opening import networks, pod_options, questions, sentences
from moorage.engines.kubernetes.running.app import require_short
from moorage.errors import ConfigurationInvalid, DeployFailed, FailureCause
from support.engines.kubernetes_schemas import RELEASES, validate_object

LIMITS = Limits(memory_bytes=1, cpu_millis=1, pids=1, disk_bytes=1)
HERE = HostConfiguration(
    state_dir=Path("/state"), run_dir=Path("/run/x"), instance_id="a", tools={}, deny=("9.0.0.0/8",)
)


def options(
    *,
    resolvers: tuple[str, ...] = (),
    gateway_networks: tuple[str, ...] = (),
    gateway_namespace: str = "moorage",
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
        gateway_namespace=gateway_namespace,
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


def test_gateway_outside_the_cluster_names_its_networks_else_apps_are_open_to_all_pods() -> None:
    with pytest.raises(ConfigurationInvalid, match="kubernetes_gateway_networks"):
        networks(options(gateway_namespace=""), HERE)
    outside = options(gateway_namespace="", gateway_networks=("192.0.2.1/32",))
    assert networks(outside, HERE).gateway_networks == ("192.0.2.1/32",)


def test_gateway_reads_no_secret_and_has_no_wildcard() -> None:
    found = {(q.rule.resource, q.verb) for q in questions()}
    assert {verb for resource, verb in found if resource == "secrets"}.isdisjoint(
        {"get", "list", "watch"}
    )
    assert not any("*" in word for pair in found for word in pair)
    assert not {"pods/exec", "pods/attach", "serviceaccounts/token"} & {r for r, _ in found}


def test_question_names_subresource_and_group_as_the_api_takes_them() -> None:
    by_name = {(q.rule.resource, q.verb): q for q in questions()}
    log = by_name["pods/log", "get"]
    assert log.review()["spec"]["resourceAttributes"] == {
        "group": "",
        "resource": "pods",
        "subresource": "log",
        "verb": "get",
    }
    for question in by_name.values():
        validate_object(question.review(), RELEASES[-1])


def test_what_is_refused_is_told_once_for_each_resource_with_what_it_is_for() -> None:
    refused = [q for q in questions() if q.rule.resource in {"deployments", "secrets"}]
    assert sentences(refused) == [
        "may not create, patch, delete secrets, to give apps their variables",
        "may not get, create, patch, delete deployments.apps, to run apps",
    ]
    assert sentences([]) == []


GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_objects_are_the_golden_ones(name: str) -> None:
    golden = GOLDEN / f"{name}.json"
    if os.environ.get("REWRITE_OBJECTS"):
        golden.write_text(json.dumps(SAMPLES[name], indent=2, ensure_ascii=False) + "\n")
    assert json.loads(golden.read_text()) == SAMPLES[name]


def test_every_golden_file_is_compared() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} == set(SAMPLES)


@pytest.mark.parametrize("release", RELEASES)
def test_objects_satisfy_the_schema_of_each_release(release: str) -> None:
    for objects in SAMPLES.values():
        for found in objects:
            validate_object(found, release)


def test_schemas_refuse_an_unknown_field() -> None:
    claim = SAMPLES["volume"][0]
    with pytest.raises(AssertionError, match="surprise"):
        validate_object({**claim, "surprise": 1}, RELEASES[-1])


def test_usual_variables_are_taken() -> None:
    for variables in ({}, {"A": "x" * 90_000}, {f"V{n}": "x" * 2_000 for n in range(200)}):
        require_short(variables, setting="runEnvs", cause=FailureCause.CRASHED)


@pytest.mark.parametrize(
    "variables",
    [
        {"A": "x" * 100_000},
        {"A": "\u20ac" * 34_000},
        {f"V{number}": "x" * 32_768 for number in range(16)},
    ],
    ids=["long", "wide", "many"],
)
def test_too_long_ones_are_named(variables: dict[str, str]) -> None:
    with pytest.raises(DeployFailed, match="runEnvs are too long") as failed:
        require_short(variables, setting="runEnvs", cause=FailureCause.CRASHED)
    assert failed.value.cause is FailureCause.CRASHED


WITH_PODS = sorted(
    name
    for name, objects in SAMPLES.items()
    if any(found["kind"] in {"Deployment", "Pod"} for found in objects)
)


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [found for found in objects if found["kind"] == kind]


# Pods


@pytest.mark.parametrize("name", WITH_PODS)
def test_every_pod_is_restricted(name: str) -> None:
    """The Pod Security Standard `restricted`, word by word, and what it leaves out."""
    for spec in pod_specs(SAMPLES[name]):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
        kinds = {kind for volume in spec["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"emptyDir", "persistentVolumeClaim"}
        for container in containers(spec):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
            }
            assert "hostPort" not in json.dumps(container)


HELPERS = {"self-test", "volume-pod"}
"""What runs where apps have been promised all processors."""


@pytest.mark.parametrize("name", WITH_PODS)
def test_every_container_and_every_volume_in_a_pod_is_bounded(name: str) -> None:
    for spec in pod_specs(SAMPLES[name]):
        for container in containers(spec):
            resources = container["resources"]
            assert set(resources["limits"]) == {"cpu", "memory", "ephemeral-storage"}
            promised = {**resources["limits"], "cpu": "5m"} if name in HELPERS else None
            assert resources["requests"] == (promised or resources["limits"])
        assert all("sizeLimit" in v["emptyDir"] for v in spec["volumes"] if "emptyDir" in v)


@pytest.mark.parametrize("name", WITH_PODS)
def test_every_pod_can_be_found_by_the_gateways_label(name: str) -> None:
    for found in SAMPLES[name]:
        assert found["metadata"]["labels"][INSTANCE_LABEL] == "3f2a1b"


def test_operators_choices_reach_the_pod() -> None:
    (spec,) = pod_specs(app_objects(app(), STRICT))
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["hostUsers"] is False
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["terminationGracePeriodSeconds"] == 10
    assert (spec["dnsPolicy"], spec["dnsConfig"]["nameservers"]) == ("None", ["9.9.9.9"])


# Apps


def test_service_selects_the_pods_of_its_deployment_alone() -> None:
    _, service, running = app_objects(app(), PLAIN)
    labels = running["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == running["spec"]["selector"]["matchLabels"] == labels
    assert labels[DEPLOYMENT_LABEL] == DEPLOYMENT


def test_versions_that_share_a_volume_run_on_one_node() -> None:
    """Its label is in no selector: a Deployment's can't be changed, and a volume may come later."""
    running = app_objects(app(volume=VOLUME), PLAIN)[-1]["spec"]
    assert running["template"]["metadata"]["labels"][VOLUME_LABEL] == VOLUME
    assert VOLUME_LABEL not in running["selector"]["matchLabels"]
    affinity = running["template"]["spec"]["affinity"]["podAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    assert term["labelSelector"] == {"matchLabels": {VOLUME_LABEL: VOLUME}}
    assert "affinity" not in app_objects(app(), PLAIN)[-1]["spec"]["template"]["spec"]


def test_new_pod_is_ready_before_the_old_one_ends_unless_a_volume_has_one_user() -> None:
    def strategy(volume: str | None) -> Manifest:
        found: Manifest = app_objects(app(volume=volume), PLAIN)[-1]["spec"]["strategy"]
        return found

    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    assert strategy(None) == {"type": "RollingUpdate", "rollingUpdate": rolling}
    assert strategy(VOLUME) == {"type": "Recreate"}


def test_app_has_as_long_to_listen_as_the_operator_gives_it() -> None:
    (spec,) = pod_specs(app_objects(app(), PLAIN))
    probe = spec["containers"][0]["startupProbe"]
    assert probe["failureThreshold"] * probe["periodSeconds"] == 60
    assert probe["tcpSocket"] == {"port": "http"}


def test_variables_are_in_the_secret_alone() -> None:
    secret, *others = app_objects(app(), PLAIN)
    values = {key: b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == {"PORT": "3000", "GREETING": "a $(PORT) ü\nb"}
    assert "GREETING" not in json.dumps(others)
    (spec,) = pod_specs(others)
    assert spec["containers"][0]["envFrom"] == [{"secretRef": {"name": f"app-{DEPLOYMENT}"}}]


def test_app_of_a_dockerfile_runs_as_its_image_says_but_never_as_root() -> None:
    (spec,) = pod_specs(app_objects(replace(app(), is_own_image=True, port=80), STRICT))
    context = spec["securityContext"]
    assert (context["runAsNonRoot"], "runAsUser" in context) == (True, False)


@pytest.mark.parametrize("is_own_image", [True, False])
def test_app_may_listen_below_1024_in_its_own_pod(is_own_image: bool) -> None:
    (spec,) = pod_specs(app_objects(replace(app(), is_own_image=is_own_image), STRICT))
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    assert spec["securityContext"]["sysctls"] == sysctls


# Namespaces


def test_wallet_has_one_namespace_however_its_address_is_written() -> None:
    name = wallet_namespace("moorage", OWNER)
    assert name == wallet_namespace("moorage", OWNER.lower())
    assert name != wallet_namespace("moorage", OWNER[:-1] + "C")
    assert len(name) <= 63


def test_namespace_takes_restricted_pods_only_and_tells_whose_it_is() -> None:
    (found,) = of_kind(namespaced(INSIDE), "Namespace")
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert found["metadata"]["annotations"] == {OWNER_ANNOTATION: OWNER}


def test_quota_has_room_for_a_new_version_beside_each_app() -> None:
    (quota,) = of_kind(namespaced(INSIDE), "ResourceQuota")
    hard = quota["spec"]["hard"]
    assert hard["pods"] == "21"
    assert hard["limits.memory"] == str(21 * 512 * 1024 * 1024)
    assert hard["requests.cpu"] == f"{21 * 500}m"
    assert hard["services.loadbalancers"] == hard["services.nodeports"] == "0"


def test_container_is_as_large_as_an_app_at_most_and_by_default() -> None:
    (found,) = of_kind(namespaced(INSIDE), "LimitRange")
    container = found["spec"]["limits"][0]
    assert container["max"] == container["default"] == container["defaultRequest"]
    assert container["max"]["memory"] == str(APP_LIMITS.memory_bytes)


# Networks


def policy(networks: Networks, name: str) -> Manifest:
    (spec,) = (
        found["spec"]
        for found in of_kind(namespaced(networks), "NetworkPolicy")
        if found["metadata"]["name"] == name
    )
    assert isinstance(spec, dict)
    return spec


def lets_pass(spec: Manifest, address: str, port: int, protocol: str = "TCP") -> bool:
    """Whether a policy lets a pod connect to an address, as NetworkPolicy is defined."""
    return any(
        any(_is_in(peer.get("ipBlock"), address) for peer in rule["to"])
        and any(
            it["protocol"] == protocol and it["port"] <= port <= it.get("endPort", it["port"])
            for it in rule["ports"]
        )
        for rule in spec["egress"]
    )


def _is_in(block: Manifest | None, address: str) -> bool:
    if block is None or ip_address(address) not in ip_network(block["cidr"]):
        return False
    return not any(ip_address(address) in ip_network(it) for it in block.get("except", ()))


@pytest.mark.parametrize("networks", [INSIDE, OUTSIDE], ids=["inside", "outside"])
def test_pods_reach_the_public_internet_and_nothing_private(networks: Networks) -> None:
    spec = policy(networks, "apps")
    assert lets_pass(spec, "93.184.216.34", 443)
    assert lets_pass(spec, "93.184.216.34", 443, "UDP")
    for address in (
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
        *("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "fd00:ec2::254"),
    ):
        assert not lets_pass(spec, address, 443), address
    assert not lets_pass(spec, "2606:2800:220:1::1", 443)


@pytest.mark.parametrize("port", [25, 465, 587])
def test_pods_send_no_mail_and_reach_the_ports_beside_those_of_mail(port: int) -> None:
    spec = policy(OUTSIDE, "apps")
    for address in ("93.184.216.34", "10.1.2.3"):
        assert not lets_pass(spec, address, port)
        assert lets_pass(spec, address, port - 1)
        assert lets_pass(spec, address, port + 1)
    assert lets_pass(spec, "93.184.216.34", 65_535)


def test_operator_denies_and_allows_networks() -> None:
    spec = policy(OUTSIDE, "apps")
    assert not lets_pass(spec, "198.51.100.7", 443)  # denied
    assert not lets_pass(spec, "203.0.113.7", 443)  # the cluster's own
    assert lets_pass(spec, "10.1.2.7", 443)  # allowed, although it is private
    assert not lets_pass(spec, "10.1.3.7", 443)


def test_only_port_53_of_a_private_resolver_is_reached() -> None:
    networks = Networks(gateway_namespace="moorage", resolvers=("10.9.9.9",))
    spec = policy(networks, "apps")
    assert lets_pass(spec, "10.9.9.9", 53, "UDP")
    assert lets_pass(spec, "10.9.9.9", 53)
    assert not lets_pass(spec, "10.9.9.9", 443)


def test_apps_are_reached_by_gateways_alone_and_reach_none() -> None:
    inside, outside = policy(INSIDE, "apps"), policy(OUTSIDE, "apps")
    (peer,) = inside["ingress"][0]["from"]
    named = {"kubernetes.io/metadata.name": "moorage"}
    assert peer["namespaceSelector"]["matchLabels"] == named
    assert peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert outside["ingress"] == [{"from": [{"ipBlock": {"cidr": "192.0.2.10/32"}}]}]
    assert not any(map(_is_of_gateways, inside["egress"]))


def _is_of_gateways(rule: Manifest) -> bool:
    return "app.kubernetes.io/name" in json.dumps(rule["to"])


def test_whatever_has_no_policy_of_its_own_is_denied_all() -> None:
    spec = policy(INSIDE, "deny-all")
    assert spec == {
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [],
    }
