"""Keys of a request that nobody reads: which was meant, and whether one holds a payment's hash."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

import msgspec

_HASH = re.compile(r"0[xX][0-9a-fA-F]{64}")
_DIGITS = re.compile(r"[0-9a-fA-F]{64}")
_OF_A_PAYMENT = re.compile(r"tx|transaction|pay(?!load)|receipt|proof", re.IGNORECASE)
_OF_SOMETHING_ELSE = re.compile(
    r"digest|sha\d|hmac|checksum|etag|match|integrity|content|commit|merkle|root|block|image|build"
    r"|sign|key|secret|salt|seed|password|mnemonic|cookie|session|csrf|token$|auth|challenge|nonce"
    r"|idempot|trace|span|correlation|request|fingerprint|env|variable|vars",
    re.IGNORECASE,
)
_MAX_VALUES = 256
_MAX_DEPTH = 4
_SHOWN_LENGTH = 64


class MisplacedHash(msgspec.Struct, frozen=True):
    """Where a hash stands that is not read there, and the hash: 0x and 64 lower-case digits."""

    field: str
    tx_hash: str


def misplaced_hash(values: Mapping[str, object]) -> MisplacedHash | None:
    """Returns the first hash among values that nobody reads, by their names; None without one."""
    for _, (path, value) in zip(range(_MAX_VALUES), _texts(values, "", _MAX_DEPTH), strict=False):
        if len(value) in (64, 66) and _is_hash(path, value) and not _OF_SOMETHING_ELSE.search(path):
            field = path[:_SHOWN_LENGTH].encode(errors="replace").decode()
            return MisplacedHash(field, f"0x{value[-64:].lower()}")
    return None


def _is_hash(path: str, value: str) -> bool:
    if _HASH.fullmatch(value):
        return True
    return bool(_DIGITS.fullmatch(value) and _OF_A_PAYMENT.search(path))


def _texts(value: object, path: str, depth: int) -> Iterator[tuple[str, str]]:
    """Yields each text with its dotted path; lists don't add to that."""
    if isinstance(value, str):
        yield path, value.strip()
    elif depth and isinstance(value, Mapping):
        for name, each in value.items():
            yield from _texts(each, f"{path}.{name}" if path else str(name), depth - 1)
    elif depth and isinstance(value, list):
        for each in value:
            yield from _texts(each, path, depth - 1)


_COMPARED_LENGTH = 64
_MIN_RATIO = 0.88  # one letter of eight is missing or wrong
_MAX_COMPARED = 20  # keys of one object: a comparison takes 0.1 ms

_ALIASES = {
    "name": "uniqueName",
    "projectName": "uniqueName",
    "appName": "uniqueName",
    "slug": "uniqueName",
    "title": "displayName",
    "desc": "description",
    "duration": "months",
    "files": "upload",
    "zip": "upload",
    "archive": "upload",
    "env": "runEnvs",
    "envVars": "runEnvs",
    "environment": "runEnvs",
    "environmentVariables": "runEnvs",
    "variables": "runEnvs",
    "vars": "runEnvs",
    "secrets": "runEnvs",
    "runVars": "runEnvs",
    "runtimeEnvs": "runEnvs",
    "buildEnvs": "buildVars",
    "buildArgs": "buildVars",
    "start": "runCommand",
    "startCommand": "runCommand",
    "command": "runCommand",
    "build": "buildCommand",
    "install": "installCommand",
    "healthCheck": "healthPath",
    "healthCheckPath": "healthPath",
    "disk": "volume",
    "storage": "volume",
    "persistent": "volume",
    "directory": "directoryPath",
    "rootDirectory": "directoryPath",
    "outputDirectory": "buildDir",
    "dockerfile": "hasDockerfile",
    "amount": "amount_usd",
    "usd": "amount_usd",
    "deployment": "deploymentId",
    "release": "deploymentId",
    "version": "deploymentId",
    "to": "deploymentId",
    "id": "deploymentId",
}
"""What others call a key."""


class Suggestions:
    """Finds the advice for keys that are spelt otherwise, or are others' words for a known one."""

    def __init__(self, advice: Mapping[str, str]) -> None:
        """`advice` is what to say to whoever meant this key."""
        aliases = {alias: advice[key] for alias, key in _ALIASES.items() if key in advice}
        self._advice = {_stem(key): text for key, text in (aliases | dict(advice)).items()}

    def advice(self, key: str, *, near: bool = True) -> str | None:
        """Returns what to say about an unknown key, or None.

        With `near`, a letter may be missing or wrong; that takes some 0.1 ms.
        """
        stem = _stem(key[:_COMPARED_LENGTH])
        if stem not in self._advice and near:
            stem = next(iter(get_close_matches(stem, self._advice, n=1, cutoff=_MIN_RATIO)), "")
        return self._advice.get(stem)

    def first(self, unknown: list[str]) -> tuple[str, str] | None:
        """Returns the first of an object's unknown keys for which there is advice, with it."""
        for index, key in enumerate(unknown):
            if advice := self.advice(key, near=index < _MAX_COMPARED):
                return key, advice
        return None


def did_you_mean(keys: Mapping[str, object] | frozenset[str]) -> dict[str, str]:
    """Returns the advice to write each key as it is."""
    return {key: f"is not known here; did you mean {key}?" for key in keys}


def _stem(key: str) -> str:
    """Returns what is left without letter case, plural and punctuation."""
    return "".join(char for char in key.lower() if char.isalnum()).removesuffix("s")
