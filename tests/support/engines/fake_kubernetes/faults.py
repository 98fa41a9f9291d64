"""What a test makes go wrong between the API server and its clients."""

import asyncio
from dataclasses import dataclass, field
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


INTERNAL = Refusal(500, "InternalError", "Internal error occurred: etcdserver: request timed out")
BUSY = Refusal(429, "TooManyRequests", "too many requests, please try again later")
STARTING = Refusal(
    403,
    "Forbidden",
    'deployments.apps is forbidden: User "system:serviceaccount:moorage:moorage" cannot create'
    ' resource "deployments" in API group "apps" in the namespace "moorage-1"',
)
"""What a server says of everybody until it has read the roles."""


@dataclass
class Fault:
    """Requests that are refused, or that get no answer."""

    verb: str  # list, watch, get, create, patch, update, delete, deletecollection; "*" for any
    plural: str  # or "*"
    refusal: Refusal | None = None  # None: the request hangs
    times: int | None = None  # None: until it is mended

    def hits(self, verb: str, plural: str) -> bool:
        if self.times == 0 or self.verb not in {"*", verb} or self.plural not in {"*", plural}:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Faults:
    """All that is wrong now."""

    faults: list[Fault] = field(default_factory=list)
    denied: set[tuple[str, str]] = field(default_factory=set)  # verb and plural without permission
    frozen: bool = False  # watches stay open, and tell nothing

    async def meet(self, verb: str, plural: str) -> None:
        """Raises what is to be refused; hangs if nothing is to be answered."""
        for fault in self.faults:
            if fault.hits(verb, plural):
                if fault.refusal is None:
                    await asyncio.Event().wait()
                else:
                    raise fault.refusal
