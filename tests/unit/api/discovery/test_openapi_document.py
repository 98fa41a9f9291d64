"""The OpenAPI document: short, first the deploy, with what a payer must know."""

import gzip
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from moorage.api.discovery import guide
from moorage.api.discovery.openapi import openapi_document
from moorage.api.operations import OPERATIONS
from moorage.mcp.tools import Arguments
from moorage.wire.shape import Body, CamelBody
from support.gateway.discovery_facts import FACTS

ENCODED = msgspec.json.encode(openapi_document(OPERATIONS, facts=FACTS))
DOCUMENT: dict[str, Any] = json.loads(ENCODED)
PAID = [("/agent/deploy", "post"), ("/agent/credits", "post")]


def test_openapi_is_valid_and_small_enough_to_read() -> None:
    validate(DOCUMENT)
    assert len(ENCODED) < 114_688
    assert len(gzip.compress(ENCODED)) < 21_504  # what clients fetch


def test_no_map_is_described_in_place() -> None:
    """Generators of clients name each one, and drop a model that has the same name twice."""
    schemas = DOCUMENT["components"]["schemas"]
    assert [name for name, each in schemas.items() if list(maps_in(each.values()))] == []


def maps_in(described: Iterable[Any]) -> Iterator[Any]:
    for each in described:
        if isinstance(each, dict):
            if isinstance(each.get("additionalProperties"), dict):
                yield each
            yield from maps_in(each.values())
        elif isinstance(each, list):
            yield from maps_in(each)


def test_no_field_that_a_client_may_leave_out_has_a_default() -> None:
    """Generators for TypeScript make it a required one; its description tells the default."""
    assert '"default":' not in json.dumps(DOCUMENT["components"]["schemas"])
    months = DOCUMENT["components"]["schemas"]["DeployBody"]["properties"]["months"]
    assert months["description"].endswith("; 1 unless given")


def patterns_in(described: Any) -> Iterator[str]:
    if isinstance(described, dict):
        if isinstance(pattern := described.get("pattern"), str):
            yield pattern
        yield from patterns_in([*described.values()])
    elif isinstance(described, list):
        for each in described:
            yield from patterns_in(each)


def kinds_of(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of(kind)


def test_no_pattern_lets_a_line_end_by_and_those_that_are_shown_are_javascripts() -> None:
    """`$` of Python is before a line end as well; `\\Z` is a letter in JavaScript (ECMA-262)."""
    kinds = [*kinds_of(Body), *kinds_of(CamelBody), *kinds_of(Arguments)]
    found = {*patterns_in([msgspec.json.schema(each) for each in kinds])}
    assert len(found) > 8
    assert [each for each in found if re.search(r"(?<!\\)\$(?!\()", each)] == []
    shown = {*patterns_in(DOCUMENT)}
    assert shown <= {each.replace(r"\Z", "$") for each in found}


def test_openapi_begins_with_the_deploy_and_its_body() -> None:
    assert next(iter(DOCUMENT["paths"])) == "/agent/deploy"
    text = json.dumps(DOCUMENT, separators=(",", ":"))
    assert text.index('"DeployBody":') < 45_000


def test_every_operation_says_who_may_call_it() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            alternatives = operation.get("security", DOCUMENT["security"])
            assert all(scheme in schemes for each in alternatives for scheme in each), path
    public = {
        path
        for path, methods in DOCUMENT["paths"].items()
        if methods.get("get", {}).get("security") == []
    }
    keys = "/.well-known/moorage-receipts.json"
    assert public == {
        *("/agent/balance/{address}", "/agent/chains", "/agent/sizes", "/health"),
        keys,
    }


@pytest.mark.parametrize("path", ["/deploy", "/credits"])
def test_open_operation_takes_whatever_names_a_wallet_and_needs_none(path: str) -> None:
    nobody, *others = DOCUMENT["paths"][path]["post"]["security"]
    signed = DOCUMENT["paths"][f"/agent{path}"]["post"]["security"]
    assert (nobody, others) == ({}, [*signed[:2], {"managed": []}])


@pytest.mark.parametrize(("path", "method"), PAID)
def test_paid_operation_says_its_price_and_how_it_is_paid(path: str, method: str) -> None:
    operation = DOCUMENT["paths"][path][method]
    told = operation["x-payment-info"]
    assert told["price"]["mode"] == "dynamic"
    assert told["price"]["min"] == "0.50"
    assert (told["intent"], told["method"], told["amount"]) == ("charge", "evm", None)
    assert [next(iter(protocol)) for protocol in told["protocols"]] == ["x402", "mpp"]
    assert "402" in operation["responses"]


def test_deploys_highest_price_is_that_of_24_months() -> None:
    price = DOCUMENT["paths"]["/agent/deploy"]["post"]["x-payment-info"]["price"]
    assert price["max"] == "12.00"  # 24 × $0.50


def test_openapi_names_the_operator_and_the_terms() -> None:
    assert DOCUMENT["info"]["contact"]["email"] == "operator@example.com"
    assert DOCUMENT["info"]["termsOfService"] == "https://moor.example.com/terms"
    assert DOCUMENT["x-service-info"]["docs"]["llms"] == "https://moor.example.com/llms.txt"


def test_examples_are_bodies_that_their_types_take() -> None:
    for kind, example in guide.EXAMPLES.items():
        assert msgspec.convert(example, kind, strict=True)


def test_every_field_that_a_client_sends_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    sent = {operation.body.__name__ for operation in OPERATIONS if operation.body is not None}
    sent |= {"Settings", "FilesUpload", "UploadedFile", "ZipUpload"}
    bare = [
        f"{name}.{field}"
        for name in sent
        for field, schema in schemas[name]["properties"].items()
        if not is_described(schema) and field != "type"
    ]
    assert bare == []


def is_described(schema: dict[str, Any]) -> bool:
    return any("description" in each for each in (schema, *schema.get("anyOf", ())))


def test_schema_that_extends_another_tells_its_own_fields_alone() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["PaymentUsed"].keys() == {"description", "allOf"}
    problem, used = schemas["PaymentUsed"]["allOf"]
    assert problem == {"$ref": "#/components/schemas/Problem"}
    assert set(used["properties"]) == {"projectId", "deploymentId"}
    _, demand = schemas["PaymentDemand"]["allOf"]
    assert "error" not in demand["properties"]
    assert "error" in schemas["Problem"]["properties"]
    assert "pay_to" in demand["required"]
