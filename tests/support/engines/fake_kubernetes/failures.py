"""How the API server refuses: an HTTP status, a reason, and words."""

from typing import Any

from support.engines.fake_kubernetes.resources import Manifest, Resource


class Refusal(Exception):
    """The answer to a request that is refused."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    @property
    def status(self) -> Manifest:
        """The object of kind Status that the client reads."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def not_found(resource: Resource, name: str) -> Refusal:
    words = f'{resource.qualified} "{name}" not found'
    return Refusal(404, "NotFound", words, name=name, kind=resource.plural, group=resource.group)


def already_exists(resource: Resource, name: str) -> Refusal:
    words = f'{resource.qualified} "{name}" already exists'
    return Refusal(409, "AlreadyExists", words, name=name, kind=resource.plural)


def conflict(resource: Resource, name: str, why: str) -> Refusal:
    words = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return Refusal(409, "Conflict", words, name=name, kind=resource.plural)


def forbidden(resource: Resource, name: str, why: str) -> Refusal:
    words = f'{resource.qualified} "{name}" is forbidden: {why}'
    return Refusal(403, "Forbidden", words, name=name, kind=resource.plural)


def invalid(resource: Resource, name: str, why: str) -> Refusal:
    words = f'{resource.kind}.{resource.group} "{name}" is invalid: {why}'
    return Refusal(422, "Invalid", words, name=name, kind=resource.kind, group=resource.group)


def bad_request(why: str) -> Refusal:
    return Refusal(400, "BadRequest", why)


def expired(why: str) -> Refusal:
    return Refusal(410, "Expired", why)
