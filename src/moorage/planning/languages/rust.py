"""Rust programs: one binary of a package."""

import re
from collections.abc import Mapping
from fnmatch import fnmatch

from moorage.errors import PlanNotFound
from moorage.planning.explicit import Asked, Wanted, find_tool, wanted_from
from moorage.planning.interpreters import unmade
from moorage.planning.languages.portless import portless
from moorage.planning.plan import Recipe, Risk, Stack, risk_of
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import toml_document, word_set
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = ("Cargo.toml with src/main.rs or a [[bin]]",)
_MEMBER = re.compile(r"\A(?!.*\b(?:target|vendor|node_modules)/).+/Cargo\.toml\Z")
_MEMBERS_LIMIT = 100
_SERVERS = word_set(
    "axum actix-web rocket warp poem salvo tide ntex gotham hyper tiny_http viz loco-rs "
    "leptos_axum leptos_actix dropshot rouille"
)
_SERVE = re.compile(
    rb"derive\([^)]{0,100}\bSubcommand\b[^{]{0,400}\{[\s\S]{0,1000}?"
    rb"^[ \t]*(Serve|Server|Start|Web|Api)\b",
    re.MULTILINE,
)
_BIN = re.compile(r"src/bin/(\w[\w-]{0,80})(?:\.rs|/main\.rs)\Z")
_NAMED_LIMIT = 6  # programs in a sentence
_CHECKED = re.compile(rb"\bquery(?:_as|_scalar|_file|_file_as)?!\s*\(")
_SOURCES_LIMIT = 100  # in which SQLx' macros are looked for
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A package with a binary; None without.

    Raises UploadInvalid for a Cargo.toml that can't be read, RuntimeUnsupported without Rust,
    PlanNotFound for what listens on no port.
    """
    if not folder.has("Cargo.toml"):
        return None
    document = toml_document(folder, "Cargo.toml")
    own = _binary(folder, document)
    beside = {} if own else _own_binaries(folder)
    binaries = {} if own else beside or _members_binaries(folder, document)
    serving = [name for name, server in binaries.items() if server]
    names = [own] if own else serving or [*binaries]
    if len(names) != 1 and asked.run is None:
        missing = (
            f"several programs can be started ({', '.join(names[:_NAMED_LIMIT])}): "
            + (
                "name the one to deploy by default-run in Cargo.toml"
                if beside
                else "set settings.directoryPath to the package of the one to deploy"
            )
            if names
            else "Cargo.toml has no program, as there is no src/main.rs and no [[bin]]: add "
            "one that listens on PORT"
        )
        return Recipe(Stack.RUST, missing=missing)
    name = names[0] if names else ""
    is_free = asked.seeks_server and not any(binaries.values())
    refusal = portless(folder, "rust", "Cargo.toml") if is_free else ""
    if refusal:
        raise PlanNotFound(refusal)
    wanted = asked.version_of("rust") or _wanted(document)
    found = find_tool(toolbox, "rust", wanted, file="Cargo.toml")
    locked = " --locked" if folder.has("Cargo.lock") else ""
    # On the build's own disk: intermediate files take many times the program's space.
    target = '"$TMPDIR/target"'
    places = {f".bin/{name}": name}
    if asked.run is not None and (given := unmade(asked.run, folder)):
        places = {path: path.rpartition("/")[2] for path in given}
    build = " && ".join(
        f"cargo build --release{locked} --bin {binary} --target-dir {target} && "
        f"install -D {target}/release/{binary} {place}"
        for place, binary in places.items()
    )
    said = f"Cargo.toml has the binary {', '.join(map(str, places.values()))}"
    if len(binaries) > 1 and [*places.values()] == serving:
        said += f", the only one with a server: {binaries[name]}"
    start, because = f"./.bin/{name}{_subcommand(folder, document)}", (said, found.because)
    recipe = Recipe(Stack.RUST, None, build, start, because, tools=(found.tool,))
    return asked.over(recipe._replace(risks=_unchecked(folder)))


def _unchecked(folder: Folder) -> tuple[Risk, ...]:
    """Returns that SQLx, which asks a database as it is compiled, finds neither one nor .sqlx/."""
    sources = folder.ending(".rs")[:_SOURCES_LIMIT]
    there = folder.has_directory(".sqlx") or folder.has("sqlx-data.json")
    for file in () if there else sources:
        text = folder.source(file)
        if b"sqlx" in text and _CHECKED.search(text):
            return (risk_of("sqlx", folder.path(file), file=file),)
    return ()


def _wanted(document: Mapping[str, object]) -> Wanted | None:
    package = document.get("package")
    min_version = package.get("rust-version") if isinstance(package, dict) else None
    if not isinstance(min_version, str):  # a workspace's, for one
        return None
    return wanted_from(f">={min_version}", "Cargo.toml's rust-version")


def _binary(folder: Folder, document: Mapping[str, object]) -> str | None:
    """Returns the binary's name: default-run, the first [[bin]], or the package's own."""
    bins, package = document.get("bin"), document.get("package")
    first = bins[0] if isinstance(bins, list) and bins else None
    name = package.get("default-run") if isinstance(package, dict) else None
    if name is None and isinstance(first, dict):
        name = first.get("name")
    if name is None and isinstance(package, dict) and folder.has("src/main.rs"):
        name = package.get("name")
    if not isinstance(name, str) or not name or not _NAME.issuperset(name):
        return None
    return name


def _own_binaries(folder: Folder) -> dict[str, str]:
    """Returns the binaries in src/bin of a package without another one, by name.

    Each has what it serves with, as far as its own file tells, or "".
    """
    found: dict[str, str] = {}
    for file in folder.names():
        match = _BIN.match(file)
        if match is not None and _NAME.issuperset(match[1]):
            text = folder.plain(file)
            words = (name.replace("-", "_") for name in sorted(_SERVERS))
            found[match[1]] = next((name for name in words if f"{name}::" in text), "")
    return found


def _subcommand(folder: Folder, document: Mapping[str, object]) -> str:
    """Returns the command of a program of clap's that makes it serve, "" for other programs."""
    needs = document.get("dependencies")
    if not isinstance(needs, dict) or "clap" not in needs:
        return ""
    names = [name for name in folder.ending(".rs") if name.startswith("src/")][:_MEMBERS_LIMIT]
    texts = [folder.source(name) for name in names]
    found = next((match for text in texts if (match := _SERVE.search(text))), None)
    return f" {found[1].decode().lower()}" if found is not None else ""


def _members_binaries(folder: Folder, document: Mapping[str, object]) -> dict[str, str]:
    """Returns the binaries of the workspace's members, one of each that has any, by name.

    Each has the server among its package's dependencies, or "".
    """
    workspace = document.get("workspace")
    if not isinstance(workspace, dict):
        return {}
    places = [name.removesuffix("/Cargo.toml") for name in folder.names() if _MEMBER.search(name)]
    default = workspace.get("default-members")
    if isinstance(default, list) and all(isinstance(it, str) for it in default):
        places = [place for place in places if any(fnmatch(place, it) for it in default)] or places
    found: dict[str, str] = {}
    for member in (folder.below(place) for place in places[:_MEMBERS_LIMIT]):
        package = toml_document(member, "Cargo.toml")
        name = _binary(member, package)
        if name is not None:
            listed = package.get("dependencies")
            needs = listed if isinstance(listed, dict) else {}
            found[name] = next((it for it in needs if it in _SERVERS), "")
    return dict(sorted(found.items()))
