"""Findings: what the files of an upload hold, by a look of bounded time."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from shlex import quote

import msgspec

from moorage.planning import static
from moorage.planning.inspection.credentials import KEYS, secret_file, secret_text
from moorage.planning.inspection.writing import is_code, names_volume, writes
from moorage.planning.plan import Plan
from moorage.planning.reading.source import SourceTree
from moorage.planning.recipe import in_app
from moorage.records.finding import Finding, FindingKind

_MAX_BYTES = 4 * 1024 * 1024  # read in all, small files first: secrets are short
_MAX_FILE_BYTES = 256 * 1024  # of one
_MAX_TOLD = 10  # secrets
_PLACES_OF_OTHERS = frozenset(
    ("node_modules", ".git", ".venv", "venv", "vendor", "site-packages", "__pycache__")
)
_TEXTS = (
    *(".html", ".htm", ".css", ".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"),
    *(".vue", ".svelte", ".md", ".py", ".php", ".go", ".rs", ".rb"),
)
"""Files that are more than a secret, whatever they hold."""

_SECRETS = (FindingKind.CREDENTIAL_FILE, FindingKind.CREDENTIAL_TEXT)


def inspect(tree: SourceTree) -> list[Finding]:
    """Returns every secret that was found, by path, then one place each that writes files."""
    secrets: list[Finding] = []
    code: dict[FindingKind, Finding] = {}
    for path, data in _looked_at(tree):
        found = _secret(path, data)
        if found is not None:
            secrets.append(found)
        for told in _code(path, data):
            code.setdefault(told.kind, told)
    return [*sorted(secrets, key=lambda each: each.path), *code.values()]


def told(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns what of the findings is kept to be told: a few secrets, and all else."""
    secrets = [each for each in found if each.kind in _SECRETS]
    return (*secrets[:_MAX_TOLD], *(each for each in found if each.kind not in _SECRETS))


def unserved(plan: Plan, found: Sequence[Finding]) -> Plan:
    """Returns the plan of a site without the files that are secrets, which it would serve.

    Dotfiles stay, as they are never served, and builds read variables from them.
    """
    paths = [
        each.path
        for each in found
        if each.kind is FindingKind.CREDENTIAL_FILE and not _is_hidden(each.path)
    ]
    if not paths or not static.is_site(plan.start):
        return plan
    removed = f"rm -f -- {' '.join(quote(in_app(path)) for path in paths)}"
    because = f"secrets in the upload are removed, so that the site does not serve them: {paths[0]}"
    if len(paths) > 1:
        because += f" and {len(paths) - 1} more"
    return msgspec.structs.replace(
        plan,
        build=removed if plan.build is None else f"{removed}\n{plan.build}",
        because=(*plan.because, because),
    )


def _looked_at(tree: SourceTree) -> Iterator[tuple[str, bytes]]:
    """Yields paths with the beginning of their files, b"" once enough was read."""
    left = _MAX_BYTES
    own = [path for path in tree.paths if _PLACES_OF_OTHERS.isdisjoint(path.split("/"))]
    for path in sorted(own, key=tree.size):
        size = min(tree.size(path), _MAX_FILE_BYTES)
        data = tree.read(path, limit=size) if 0 < size <= left else b""
        left -= len(data)
        yield path, data


def _secret(path: str, data: bytes) -> Finding | None:
    pure = PurePosixPath(path)
    what = secret_file(pure.name)
    if what is not None:
        return Finding(FindingKind.CREDENTIAL_FILE, path, what)
    what = secret_text(data)
    if what is None:
        return None
    is_whole = what in KEYS and pure.suffix.lower() not in _TEXTS
    kind = FindingKind.CREDENTIAL_FILE if is_whole else FindingKind.CREDENTIAL_TEXT
    return Finding(kind, path, what)


def _code(path: str, data: bytes) -> Iterator[Finding]:
    if not is_code(path):
        return
    used = writes(path, data)
    if used is not None:
        yield Finding(FindingKind.WRITES, path, used)
    if names_volume(data):
        yield Finding(FindingKind.NAMES_VOLUME, path, "")


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") and part != ".well-known" for part in path.split("/"))
