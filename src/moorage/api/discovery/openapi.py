"""The OpenAPI 3.1 document, made from the table of operations and the types of the bodies.

Parameters and error answers are described once, as components, so that it is short enough to read.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moorage import __version__
from moorage.api.discovery import guide
from moorage.api.discovery.guide import NAME, SUMMARY, Facts
from moorage.api.http.dispatch import Operation
from moorage.money import usd_text
from moorage.wire.problems import PaymentDemand, PaymentUsed, Problem
from moorage.wire.shape import Body, CamelBody, json_schemas

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_MEANS_HEADERS = ("X-Payment-Chain", "X-Payment-Token")
_PROBLEMS: dict[int, tuple[type[Problem], ...]] = {
    402: (PaymentDemand, Problem),  # a plain problem while a payment is pending
    409: (PaymentUsed,),
}
_SIGNED_PROBLEMS = (400, 401, 429, 502)  # 400 and 502 are about contract wallets

_WALLET_SCHEMES = {
    "wallet": "X-Wallet-Address",
    "signature": "X-Signature",
    "timestamp": "X-Timestamp",
    "nonce": "X-Nonce",
}
_ANY = "default"
"""What OpenAPI calls a response of any status that has none of its own."""

_MORE = frozenset("`;")
"""What is in the description of an answer that says more than what was done: of its fields."""

_MAPS: dict[str, dict[str, Any]] = {
    "Texts": {"type": "string"},
    "OptionalTexts": {"type": ["string", "null"]},
    "Counts": {"type": "integer"},
    "Amounts": {"type": "number"},
    "Values": {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "number"}]},
}
"""Objects with any keys, by the schema of their values: generators need a name for each."""

_MANAGED = "managed"
_SIGN_IN = "signIn"
_VERSION = "version"


def openapi_document(operations: Sequence[Operation], *, facts: Facts) -> dict[str, Any]:
    """Returns the whole document, in the order in which a reader needs it."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, facts, _shared_queries(operations))
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": _info(facts),
        "servers": [{"url": facts.url}],
        "x-service-info": {
            "categories": ["compute", "developer-tools"],
            "docs": {
                "homepage": f"{facts.url}/",
                "apiReference": f"{facts.url}/openapi.json",
                "llms": f"{facts.url}/llms.txt",
            },
        },
        "security": _of_a_project(),
        "x-agentcash-guidance": {"llmsTxtUrl": f"{facts.url}/llms.txt"},
        "paths": paths,
        "components": {
            "securitySchemes": _security_schemes(),
            "schemas": _schemas(operations),
            "parameters": _shared_parameters(operations),
            "responses": _shared_responses(),
        },
    }


def _info(facts: Facts) -> dict[str, Any]:
    info: dict[str, Any] = {
        "title": NAME,
        "version": __version__,
        "description": f"{SUMMARY} {facts.price_text}, paid with {facts.chains_text}.",
        "x-guidance": guide.guidance(facts),
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    if contact := facts.seller.contact:
        place = "url" if "://" in contact else "email"
        info["contact"] = {"name": "Operator", place: contact}
    if facts.seller.terms_url:
        info["termsOfService"] = facts.seller.terms_url
    return info


def _security_schemes() -> dict[str, Any]:
    return {
        scheme: {
            "type": "apiKey",
            "in": "header",
            "name": header,
            "description": guide.WALLET_HEADERS[header],
        }
        for scheme, header in _WALLET_SCHEMES.items()
    } | {
        _SIGN_IN: {
            "type": "apiKey",
            "in": "header",
            "name": "SIGN-IN-WITH-X",
            "x-agentcash-auth-kind": "siwx",
            "description": guide.SIGN_IN,
        },
        _MANAGED: {"type": "http", "scheme": "bearer", "description": guide.MANAGED},
        _VERSION: {
            "type": "apiKey",
            "in": "header",
            "name": "X-Signature-Version",
            "description": guide.BOUND,
        },
    }


def _schemas(operations: Sequence[Operation]) -> dict[str, Any]:
    """Returns the schemas, those of the first operation first."""
    kinds = [kind for operation in operations for kind in _types(operation)]
    _, components = json_schemas(list(dict.fromkeys(kinds)), ref_template=_REF)
    components = _extending({name: _lean(schema) for name, schema in components.items()})
    components |= {
        name: {"type": "object", "additionalProperties": of} for name, of in _MAPS.items()
    }
    ordered: dict[str, Any] = {}
    for kind in kinds:
        _take(kind.__name__, components, ordered)
    for answer in {kind.__name__ for operation in operations for kind in _answers(operation)}:
        if _MORE.isdisjoint(ordered[answer].get("description", "")):
            ordered[answer].pop("description", None)  # its operation's summary says as much
    for kind in dict.fromkeys(kinds):
        if example := guide.EXAMPLES.get(kind):
            ordered[kind.__name__]["example"] = example  # stock clients send it; not `examples`
    return ordered


def _extending(components: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schemas; one that has all of another's fields refers to it for these."""
    bases = {kind.__name__: kind.__base__ for kind in _bodies_below(Body, CamelBody)}
    found = dict(components)
    for name, schema in components.items():
        base = getattr(bases.get(name), "__name__", "")
        if base in components:
            own = _without(schema, components[base])
            outside = {k: own.pop(k) for k in ("title", "description") if k in own}
            # Generators overlook what stands beside a single `allOf`.
            found[name] = outside | {"allOf": [_ref("schemas", base), own]}
    return found


def _bodies_below(*kinds: type) -> Iterator[type]:
    for kind in kinds:
        yield from kind.__subclasses__()
        yield from _bodies_below(*kind.__subclasses__())


def _without(schema: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    told = base["properties"]
    return dict(schema) | {
        "properties": {k: v for k, v in schema["properties"].items() if told.get(k) != v},
        "required": [each for each in schema["required"] if each not in base["required"]],
    }


def _take(name: str, components: Mapping[str, Any], into: dict[str, Any]) -> None:
    """Puts a schema, then those that it refers to, without titles that only repeat the name."""
    if name in into:
        return
    into[name] = {k: v for k, v in components[name].items() if k != "title"}
    if text := components[name].get("description"):
        into[name]["description"] = " ".join(text.split())
    for ref in _references(components[name]):
        _take(ref.rpartition("/")[2], components, into)


def _lean(described: Any) -> Any:
    """Returns a schema as generators of clients understand it, without what is implied.

    `[type, "null"]` stands for such an `anyOf`, a map is referred to by its name, and a default is
    told in words: a field with `default` would become a required one.
    """
    if isinstance(described, list):
        return [_lean(each) for each in described]
    if not isinstance(described, dict):
        return described
    match {k: _lean(v) for k, v in described.items() if (k, v) != ("required", [])}:
        case {"anyOf": [{"type": str() as kind, **others}, {"type": "null"}], **rest} if (
            "enum" not in others
        ):
            return _lean(rest | others | {"type": [kind, "null"]})
        case {"additionalProperties": dict() as of, **rest}:
            name = next(name for name, value in _MAPS.items() if value == of)
            return _told(rest) | _ref("schemas", name)
        case {"default": default, **rest}:
            return rest | _told(rest, default)
        case lean:
            return lean


def _told(described: Mapping[str, Any], default: object = None) -> dict[str, str]:
    """Returns the description of a field, with its default if that says something."""
    text = described.get("description", "")
    if default not in (None, "", {}, []):
        text = f"{text}; {json.dumps(default)} unless given".removeprefix("; ")
    return {"description": text} if text else {}


def _references(described: Any) -> Iterator[str]:
    if isinstance(described, dict):
        if "$ref" in described:
            yield described["$ref"]
        yield from (ref for value in described.values() for ref in _references(value))
    elif isinstance(described, list):
        yield from (ref for value in described for ref in _references(value))


def _types(operation: Operation) -> list[type]:
    failed = (kind for status in _failures(operation) for kind in _failed(status))
    return [*_bodies(operation), *_answers(operation), *failed]


def _bodies(operation: Operation) -> tuple[type, ...]:
    return tuple(kind for kind in (operation.body, operation.or_body) if kind is not None)


def _answers(operation: Operation) -> tuple[type, ...]:
    return (operation.answer, *((operation.or_answer,) if operation.or_answer else ()))


def _failures(operation: Operation) -> list[int]:
    return sorted({*operation.fails, *(_SIGNED_PROBLEMS if operation.signed else ())})


def _failure_names(operation: Operation) -> list[str]:
    """Returns the names of its failures; those that say nothing of an operation share one."""
    named = (str(s) if s in guide.FAILURES else _ANY for s in _failures(operation))
    return sorted(dict.fromkeys(named))


def _failed(status: int) -> tuple[type[Problem], ...]:
    return _PROBLEMS.get(status, (Problem,))


def _operation(operation: Operation, facts: Facts, shared: Mapping[str, str]) -> dict[str, Any]:
    identity = operation.handler.__name__
    described: dict[str, Any] = {"operationId": identity, "summary": _summary(operation)}
    notes = (guide.operation(identity, facts), guide.BOUND_NOTE if operation.bound else "")
    if note := " ".join(filter(None, notes)):
        described["description"] = note
    if (security := _security(operation)) != _of_a_project() or operation.paid:
        described["security"] = security  # scanners read it on what is paid
    if operation.paid:
        described["x-payment-info"] = _payment_info(operation, facts)
    if parameters := _parameters(operation, shared):
        described["parameters"] = parameters
    if operation.body is not None:
        content = _content(_bodies(operation))
        required = {} if operation.body_optional else {"required": True}
        described["requestBody"] = required | {"content": content}
    described["responses"] = {
        "200": {"description": "OK", "content": _content(_answers(operation)) | _given(operation)},
        **{name: _ref("responses", name) for name in _failure_names(operation)},
    }
    return described


def _summary(operation: Operation) -> str:
    """Returns the first line of the handler's docstring, without its method and path."""
    first_line = (operation.handler.__doc__ or "").strip().splitlines()[0]
    said = first_line.partition("`: ")[2] or first_line
    return said[:1].upper() + said[1:]


def _of_a_project() -> list[dict[str, Any]]:
    """Returns who may call an operation on a project: the document's default."""
    return [*_of_a_wallet(), {_MANAGED: []}]


def _of_a_wallet() -> list[dict[str, Any]]:
    return [{scheme: [] for scheme in _WALLET_SCHEMES}, {_SIGN_IN: []}]


def _security(operation: Operation) -> list[dict[str, Any]]:
    if not (operation.signed or operation.is_open):
        return []
    if operation.bound:
        return [{scheme: [] for scheme in (*_WALLET_SCHEMES, _VERSION)}]
    nobody: list[dict[str, Any]] = [{}] if operation.is_open else []
    by_token: list[dict[str, Any]] = [{_MANAGED: []}] if operation.of_a_project else []
    return [*nobody, *_of_a_wallet(), *by_token]


def _payment_info(operation: Operation, facts: Facts) -> dict[str, Any]:
    """Returns what a payer may expect to pay (draft-payment-discovery-00); the 402 is exact."""
    token = facts.seller.chains[0].tokens[0].symbol
    price = {"mode": "dynamic", "currency": "USD", "min": _dollars(facts.prices.minimum_charge)}
    if operation.priced:
        price["max"] = _dollars(facts.most)
    mpp = {"method": "evm", "intent": "charge", "currency": token}
    return {
        "intent": "charge",
        "method": "evm",
        "amount": None,
        "currency": token,
        "price": price,
        "protocols": [*([{"x402": {}}] if facts.settles else []), {"mpp": mpp}],
    }


def _dollars(amount: Any) -> str:
    return usd_text(amount).removeprefix("$")


def _parameters(operation: Operation, shared: Mapping[str, str]) -> list[dict[str, Any]]:
    queries = operation.query.items()
    return [
        *(_ref("parameters", name) for name in _PARAMETER.findall(operation.path)),
        *(
            _ref("parameters", name)
            if shared.get(name) == text
            else _parameter("query", name, text)
            for name, text in queries
        ),
        *(_ref("parameters", name) for name in _header_names(operation)),
    ]


def _header_names(operation: Operation) -> list[str]:
    if operation.paid:
        return list(guide.PAYMENT_HEADERS)
    if operation.bound:
        return ["Idempotency-Key"]
    return list(_MEANS_HEADERS) if operation.priced else []


def _shared_queries(operations: Sequence[Operation]) -> dict[str, str]:
    """Returns the keys of queries that several operations take, with what they mean there."""
    told = Counter(query for each in operations for query in each.query.items())
    return {name: text for (name, text), times in told.items() if times > 1}


def _shared_parameters(operations: Sequence[Operation]) -> dict[str, Any]:
    in_paths = dict.fromkeys(name for each in operations for name in _PARAMETER.findall(each.path))
    in_headers = dict.fromkeys(name for each in operations for name in _header_names(each))
    queries = _shared_queries(operations)
    return {
        **{name: _parameter("query", name, text) for name, text in queries.items()},
        **{name: _parameter("path", name, guide.IDS.get(name, "")) for name in in_paths},
        **{name: _parameter("header", name, guide.PAYMENT_HEADERS[name]) for name in in_headers},
    }


def _parameter(place: str, name: str, text: str) -> dict[str, Any]:
    described = {"name": name, "in": place, "description": text, "schema": {"type": "string"}}
    return described | ({"required": True} if place == "path" else {})


def _shared_responses() -> dict[str, Any]:
    own = {
        str(status): {"description": text, "content": _content(_failed(status))}
        for status, text in guide.FAILURES.items()
    }
    told = " ".join(f"{status}: {text}" for status, text in guide.COMMON_FAILURES.items())
    return own | {_ANY: {"description": told, "content": _content((Problem,))}}


def _given(operation: Operation) -> dict[str, Any]:
    file = {"schema": {"type": "string", "format": "binary"}}
    return {operation.gives: file} if operation.gives else {}


def _ref(kind: str, name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _content(kinds: tuple[type, ...]) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(name=kind.__name__)} for kind in kinds]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}
