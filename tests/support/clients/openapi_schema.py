"""Whether a body is what an OpenAPI document says of it: the part of JSON Schema that ours uses."""

from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {
    *("$ref", "anyOf", "allOf", "type", "enum", "properties", "required", "items", "prefixItems"),
    *("additionalProperties", "title", "description", "default", "format", "discriminator"),
    *("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "pattern"),
}


class Described:
    """The answers that a document describes."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def resolve(self, ref: str) -> dict[str, Any]:
        """What a reference leads to; KeyError when that is nothing."""
        assert ref.startswith("#/"), ref
        found: Any = self.document
        for part in ref.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)
        return found

    def parameters(self, operation: dict[str, Any]) -> list[dict[str, Any]]:
        """An operation's parameters, whether described there or once for all."""
        return [self._followed(each) for each in operation.get("parameters", ())]

    def _followed(self, described: dict[str, Any]) -> dict[str, Any]:
        return self.resolve(described["$ref"]) if "$ref" in described else described

    def answer_problems(self, method: str, path: str, status: int, body: object) -> list[str]:
        """What is wrong with an answer; `path` is the template."""
        responses = self.document["paths"][path][method.lower()]["responses"]
        found = responses.get(str(status), responses.get("default") if status >= 400 else None)
        if found is None:
            return [f"{status} is not described for {method} {path}"]
        schema = self._followed(found)["content"]["application/json"]["schema"]
        return [f"{method} {path} {status} {problem}" for problem in self._problems(schema, body)]

    def _problems(self, schema: dict[str, Any], value: Any, at: str = "$") -> Iterator[str]:
        unknown = set(schema) - _KNOWN
        assert not unknown, unknown
        if "$ref" in schema:
            yield from self._problems(self.resolve(schema["$ref"]), value, at)
        if "anyOf" in schema:
            each = [list(self._problems(option, value, at)) for option in schema["anyOf"]]
            yield from min(each, key=len)
        if "enum" in schema and value not in schema["enum"]:
            yield f"{at}: {value!r} is not one of {schema['enum']}"
        if "type" in schema and not _is_of(schema["type"], value):
            yield f"{at}: {value!r} is no {schema['type']}"
        elif isinstance(value, dict):
            yield from self._object_problems(schema, value, at)
        elif isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                yield from self._problems(schema["items"], item, f"{at}[{index}]")

    def _whole(self, schema: dict[str, Any]) -> dict[str, Any]:
        """An object's schema with the fields of those that it extends."""
        parts = [self._whole(self._followed(each)) for each in schema.get("allOf", ())]
        properties = [each.get("properties", {}) for each in (*parts, schema)]
        required = [each.get("required", []) for each in (*parts, schema)]
        whole: dict[str, Any] = {"required": [name for names in required for name in names]}
        if any(properties):
            whole["properties"] = {k: v for each in properties for k, v in each.items()}
        return schema | whole

    def _object_problems(
        self, schema: dict[str, Any], value: dict[str, Any], at: str
    ) -> Iterator[str]:
        """A member that is not described is a problem too, whatever JSON Schema allows."""
        schema = self._whole(schema)
        if "properties" not in schema and "additionalProperties" not in schema:
            return
        for name in set(schema.get("required", ())) - set(value):
            yield f"{at}.{name} is missing"
        for name, member in value.items():
            described = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(described, dict):
                yield from self._problems(described, member, f"{at}.{name}")
            else:
                yield f"{at}.{name} is not described"


def _is_of(kind: str | list[str], value: object) -> bool:
    if isinstance(kind, list):
        return any(_is_of(each, value) for each in kind)
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])
