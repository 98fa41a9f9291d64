"""The schemas of Kubernetes' objects, from the oldest release that is supported to the newest."""

from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, schema_contents
from referencing import Registry, Resource

OLDEST = (1, 31)
RELEASES = [
    release for release in all_versions() if tuple(map(int, release.split(".")[:2])) >= OLDEST
]


@cache
def _registry(folder: str, release: str) -> Registry[Any]:
    definitions = schema_contents(f"{folder}/_definitions.json", release)
    return Resource.from_contents(definitions) @ Registry()


@cache
def _validator(kind: str, version: str, release: str) -> Draft202012Validator:
    """Unlike kubernetes_validate.validate, it reads the definitions once for all objects."""
    folder = f"kubernetes-json-schema/v{release}-local-strict"
    schema = schema_contents(f"{folder}/{kind.lower()}-{version}.json", release)
    registry = Resource.from_contents(schema) @ _registry(folder, release)
    return Draft202012Validator(schema, registry=registry)


def validate_object(found: dict[str, Any], release: str) -> None:
    """Asserts that an object has all that its schema asks for, and nothing else."""
    group, _, version = found["apiVersion"].rpartition("/")
    name = f"{group.partition('.')[0]}-{version}" if group else version
    validator = _validator(found["kind"], name, release)
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(found)]
    assert errors == [], f"{found['kind']} in {release}: {errors}"
