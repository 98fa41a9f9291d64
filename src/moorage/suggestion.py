"""Suggestions: which key was meant by one that is not known, and what to do instead."""

from collections.abc import Mapping
from difflib import get_close_matches

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
