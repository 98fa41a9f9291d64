"""Values that the API server refuses."""

import ipaddress

from support.engines.fake_kubernetes.failures import invalid
from support.engines.fake_kubernetes.quantities import number
from support.engines.fake_kubernetes.resources import CLAIMS, NETWORK_POLICIES, Manifest, Resource


def validate(resource: Resource, thing: Manifest) -> None:
    """Raises Refusal for what manifests of the engine could get wrong."""
    name = thing["metadata"]["name"]
    if resource is CLAIMS:
        storage = thing["spec"]["resources"]["requests"]["storage"]
        if number(storage) <= 0:
            place = "spec.resources[storage]"
            why = f'{place}: Invalid value: "{storage}": must be greater than zero'
            raise invalid(resource, name, why)
    if resource is NETWORK_POLICIES:
        for direction in ("ingress", "egress"):
            for index, rule in enumerate(thing["spec"].get(direction, [])):
                _validate_rule(resource, name, f"spec.{direction}[{index}]", rule)


def _validate_rule(resource: Resource, name: str, place: str, rule: Manifest) -> None:
    for index, port in enumerate(rule.get("ports", [])):
        for key in ("port", "endPort"):
            value = port.get(key, 1)
            if isinstance(value, int) and not 1 <= value <= 65_535:
                where = f"{place}.ports[{index}].{key}: Invalid value: {value}"
                raise invalid(resource, name, f"{where}: must be between 1 and 65535, inclusive")
    for peer in (*rule.get("to", []), *rule.get("from", [])):
        block = peer.get("ipBlock")
        if block is None:
            continue
        try:
            outer = ipaddress.ip_network(block["cidr"])
            inner = [ipaddress.ip_network(text) for text in block.get("except", [])]
        except ValueError as error:
            raise invalid(resource, name, f"{place}: Invalid value: {error}") from error
        for network in inner:
            if network.version != outer.version or not network.subnet_of(outer):  # type: ignore[arg-type]
                words = f"{place}: Invalid value: {network}: must be a strict subset of `cidr`"
                raise invalid(resource, name, words)
