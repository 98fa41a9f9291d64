"""Moorage installed in a cluster: what `ops/kubernetes` makes, as `kubectl` renders it."""

import re
import subprocess
from functools import cache
from ipaddress import IPv4Network, collapse_addresses
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from moorage.engines.isolation.firewall import NOT_PUBLIC
from moorage.engines.kubernetes.objects.labels import GATEWAY_LABELS
from moorage.engines.kubernetes.opening import questions
from moorage.gateway.configuration import receiving_address, serving_chains
from moorage.gateway.platform import hosts_of
from moorage.settings import Settings, load_settings
from support.clients import book
from support.engines.kubernetes_schemas import RELEASES, validate_object

OPS = Path(__file__).parents[2] / "ops/kubernetes"
OVERLAYS = ("one", "several")
OF_THE_SECRET = {
    "MOORAGE_DATABASE_URL": "postgresql://moorage:word@db.example.com/moorage",
}

Object = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Object]:
    words = ["kubectl", "kustomize", str(OPS / overlay)]
    made = subprocess.run(words, capture_output=True, text=True, check=True)
    assert made.stderr == ""  # such as a field that is deprecated
    return [found for found in yaml.safe_load_all(made.stdout) if found]


def only(overlay: str, kind: str, name: str = "moorage") -> Object:
    (found,) = (
        it
        for it in rendered(overlay)
        if it["kind"] == kind and it["metadata"]["name"].startswith(name)
    )
    return found


def pod(overlay: str) -> Object:
    found: Object = only(overlay, "Deployment")["spec"]["template"]["spec"]
    return found


def gateway(overlay: str) -> Object:
    (found,) = pod(overlay)["containers"]
    assert isinstance(found, dict)
    return found


def settings_of(overlay: str, tmp_path: Path) -> Settings:
    """What a gateway's process gets from its file, its variables and, if any, the Secret's."""
    (name, text), *others = only(overlay, "ConfigMap")["data"].items()
    assert (name, others) == ("moorage.toml", [])
    file = tmp_path / name
    file.write_text(text)
    environ = {it["name"]: it.get("value", "pod-1") for it in gateway(overlay)["env"]}
    if "envFrom" in gateway(overlay):
        environ |= OF_THE_SECRET
    return load_settings(file=file, environ=environ)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("overlay", [*OVERLAYS, "builder"])
def test_every_object_satisfies_the_schema_of_each_release(overlay: str, release: str) -> None:
    for found in rendered(overlay):
        validate_object(found, release)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_role_grants_what_the_gateway_asks_for_and_nothing_else(overlay: str) -> None:
    asked = {(q.rule.group, q.rule.resource, q.verb) for q in questions()}
    granted = {
        (group, resource, verb)
        for rule in only(overlay, "ClusterRole")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == asked


def test_role_says_why_it_grants_a_thing() -> None:
    written = (OPS / "base/permissions.yaml").read_text()
    for question in questions():
        assert f"# {question.rule.why}\n" in written


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_admission_confines_the_account_that_the_role_is_bound_to(overlay: str) -> None:
    account = only(overlay, "ServiceAccount")["metadata"]
    binding = only(overlay, "ClusterRoleBinding")
    assert [(it["name"], it["namespace"]) for it in binding["subjects"]] == [("moorage", "moorage")]
    assert (account["name"], account["namespace"]) == ("moorage", "moorage")
    assert pod(overlay)["serviceAccountName"] == "moorage"
    policy = only(overlay, "ValidatingAdmissionPolicy")["spec"]
    named = 'request.userInfo.username == "system:serviceaccount:moorage:moorage"'
    assert [it["expression"] for it in policy["matchConditions"]] == [named]
    writing = {q.rule.group for q in questions() if q.verb in {"create", "patch", "delete"}}
    (rule,) = policy["matchConstraints"]["resourceRules"]
    assert (set(rule["apiGroups"]), rule["resources"]) == (writing, ["*"])
    bound = only(overlay, "ValidatingAdmissionPolicyBinding")["spec"]
    assert bound == {"policyName": "moorage", "validationActions": ["Deny"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_satisfy_the_standard_that_their_namespace_enforces(overlay: str) -> None:
    labels = only(overlay, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = pod(overlay)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    for container in (*spec["initContainers"], *spec["containers"]):
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= allowed


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_configuration_is_one_that_a_gateway_serves_with(overlay: str, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    assert serving_chains(settings)
    assert receiving_address(settings)
    assert settings.isolation == "kubernetes"
    assert settings.kubernetes_own_image == gateway(overlay)["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ports_of_the_pod_are_those_of_its_settings(overlay: str, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    ports = {it["name"]: it["containerPort"] for it in gateway(overlay)["ports"]}
    web = {"http": 80, "https": 443} if settings.tls else {"http": settings.proxy_port}
    assert ports == web | {
        "api": settings.port,
        "operator": settings.operator_port,
    }
    assert (settings.host, settings.proxy_host, settings.operator_host) == ("0.0.0.0",) * 3


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_addresses_of_apps_name_a_port_of_the_balancer(overlay: str, tmp_path: Path) -> None:
    settings = settings_of(overlay, tmp_path)
    ports = {
        it["name"]: it["port"] for it in only(overlay, "Service", "moorage-proxy")["spec"]["ports"]
    }
    address = urlsplit(hosts_of(settings, settings.proxy_port).url("shop"))
    assert address.hostname == f"shop.{settings.base_domain}"
    assert (address.port or {"http": 80, "https": 443}[address.scheme]) == ports[address.scheme]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_policies_name_ports_and_pods_that_there_are(overlay: str) -> None:
    ports = {it["name"] for it in gateway(overlay)["ports"]}
    labels = only(overlay, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels == dict(GATEWAY_LABELS)
    for found in rendered(overlay):
        if found["kind"] == "Service":
            assert found["spec"]["selector"] == labels
            assert {it["targetPort"] for it in found["spec"]["ports"]} <= ports
    policy = only(overlay, "NetworkPolicy", "gateways")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert sorted(opened) == sorted(ports)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_operators_port_is_for_its_own_service_alone(overlay: str) -> None:
    offering = {
        found["metadata"]["name"]: found["spec"].get("type")
        for found in rendered(overlay)
        if found["kind"] == "Service"
        if "operator" in {it["targetPort"] for it in found["spec"]["ports"]}
    }
    assert offering == {"moorage-operator": None}
    policy = only(overlay, "NetworkPolicy", "gateways")["spec"]
    (rule,) = (
        it for it in policy["ingress"] if {"port": "operator", "protocol": "TCP"} in it["ports"]
    )
    assert rule["from"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_service_sets_a_setting(overlay: str) -> None:
    """Kubernetes names variables after services: MOORAGE_API_PORT would be taken for a setting."""
    assert pod(overlay)["enableServiceLinks"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pod_has_time_to_end_after_nobody_is_sent_there(overlay: str) -> None:
    pause = gateway(overlay)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert 0 < pause < pod(overlay)["terminationGracePeriodSeconds"] - 30


def test_files_of_the_secret_become_the_gateways_own(tmp_path: Path) -> None:
    (keys,) = pod("several")["initContainers"]
    given, taken = tmp_path / "secrets", tmp_path / "keys"
    given.mkdir()
    taken.mkdir()
    (given / "..data").mkdir()  # as the kubelet writes them
    (given / "..data" / "secrets.key").write_text("00" * 32)
    (given / "..data" / "secrets.key").chmod(0o440)
    (given / "secrets.key").symlink_to("..data/secrets.key")
    script = keys["args"][0].replace("/secrets/", f"{given}/").replace("/keys/", f"{taken}/")
    subprocess.run([*keys["command"], script], check=True)
    (file,) = taken.iterdir()
    assert (file.name, file.read_text()) == ("secrets.key", "00" * 32)
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_gateway_keeps_its_books_on_a_volume_that_no_second_one_opens() -> None:
    assert only("one", "Deployment")["spec"]["replicas"] == 1
    assert only("one", "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    (data,) = (it for it in pod("one")["volumes"] if it["name"] == "data")
    claim = only("one", "PersistentVolumeClaim")["metadata"]["name"]
    assert data == {"name": "data", "persistentVolumeClaim": {"claimName": claim}}


def test_several_gateways_share_what_they_must_and_one_of_them_is_always_there(
    tmp_path: Path,
) -> None:
    settings = settings_of("several", tmp_path)
    assert settings.database_url
    assert settings.content_url.startswith("s3://")
    assert settings.gateway_name
    assert settings.secrets_key_file.startswith("/run/moorage-keys/")
    assert [it for it in pod("several")["volumes"] if "persistentVolumeClaim" in it] == []
    deployment = only("several", "Deployment")["spec"]
    assert deployment["replicas"] > 1
    rolling = {"maxUnavailable": 0, "maxSurge": 1}
    assert deployment["strategy"] == {"type": "RollingUpdate", "rollingUpdate": rolling}
    budget = only("several", "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == deployment["selector"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_builder_is_where_gateways_look_for_it_and_no_namespace_that_they_write_to(
    overlay: str, tmp_path: Path
) -> None:
    service = only("builder", "Service", "buildkitd")
    (port,) = service["spec"]["ports"]
    place = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port['port']}"
    settings = settings_of(overlay, tmp_path)
    assert settings.kubernetes_builder == f"buildkit+tcp://{place}"
    assert not service["metadata"]["namespace"].startswith(f"{settings.kubernetes_namespace}-")
    spec = only("builder", "Deployment", "buildkitd")["spec"]["template"]
    assert service["spec"]["selector"].items() <= spec["metadata"]["labels"].items()
    (container,) = spec["spec"]["containers"]
    asked = {word.partition("=")[0] for word in container["args"]}
    assert {"--rootless", "--tlscacert", "--tlscert", "--tlskey"} <= asked
    assert "--oci-worker-no-process-sandbox" not in asked
    assert spec["spec"]["hostUsers"] is False
    assert ":v" in container["image"]


def test_builder_is_reached_by_gateways_alone_and_reaches_nothing_private() -> None:
    (policy,) = (it["spec"] for it in rendered("builder") if it["kind"] == "NetworkPolicy")
    assert (policy["podSelector"], policy["policyTypes"]) == ({}, ["Ingress", "Egress"])
    (incoming,) = policy["ingress"]
    (peer,) = incoming["from"]
    assert peer["podSelector"]["matchLabels"] == dict(GATEWAY_LABELS)
    names = {"kubernetes.io/metadata.name": "moorage"}
    assert peer["namespaceSelector"]["matchLabels"] == names
    dns, world = policy["egress"]
    assert {it["port"] for it in dns["ports"]} == {53}
    (block,) = (it["ipBlock"] for it in world["to"])
    denied = [IPv4Network(it) for it in block["except"]]
    assert denied == list(collapse_addresses(map(IPv4Network, NOT_PUBLIC)))


AS_TYPED = """\
set -e
kubectl() {
  case " $* " in
    *" create secret "*)
      { command kubectl "$@" --dry-run=client --output yaml; echo ---; } >> made ;;
    *" apply --kustomize "*|" kustomize "*) command kubectl kustomize "${!#}" > rendered ;;
    *" apply --filename "*) test -f "${!#}" ;;
    *) echo "$*" >> asked ;;
  esac
}
docker() { test -f Containerfile; }
moorage() { :; }
"""
"""The page's commands without a cluster: what can be made here is made."""


def test_commands_of_the_page_make_what_the_installation_needs(tmp_path: Path) -> None:
    for name in ("ops", "Containerfile"):
        (tmp_path / name).symlink_to(OPS.parents[1] / name)
    for name in ("registry.json", "pull.json"):
        (tmp_path / name).write_text('{"auths": {}}')
    lines = sorted(book.lines("kubernetes"), key=lambda line: line.section != "Builds")
    script = AS_TYPED + "\n".join(line.text for line in lines)
    subprocess.run(["bash", "-c", script], cwd=tmp_path, check=True, capture_output=True)
    with (tmp_path / "made").open() as made:
        secrets = {it["metadata"]["name"]: set(it["data"]) for it in yaml.safe_load_all(made) if it}
    of_builder = {"ca.pem", "cert.pem", "key.pem"}
    assert secrets.keys() == {"moorage-pull", "moorage-keys", "moorage-urls", "buildkitd-keys"}
    assert secrets["buildkitd-keys"] == of_builder
    assert secrets["moorage-keys"] == of_builder | {"secrets.key", "registry.json", "pull.json"}
    there = {(it["kind"].lower(), it["metadata"]["name"]) for it in rendered("one")}
    asked = re.findall(r"\b(deployment|service)/([\w-]+)", (tmp_path / "asked").read_text())
    assert len(asked) > 2
    assert set(asked) <= there
