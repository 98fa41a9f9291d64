"""Finds which directory of an upload is the app, where settings.directoryPath does not say."""

from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath

from moorage.errors import InvalidField, PlanNotFound
from moorage.planning import hosts, pages, static
from moorage.planning.dockerfile.app import FILE as DOCKERFILE
from moorage.planning.explicit import Asked
from moorage.planning.kinds import MANIFESTS
from moorage.planning.languages import ruby
from moorage.planning.node.package_json import SCRIPT_FILES, TYPESCRIPT_FILES
from moorage.planning.python.objects import is_aside
from moorage.planning.python.starts import SCRIPTS as PYTHON_SCRIPTS
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_set

# With one of these a directory may be a part of the app around it.
_MARKERS = (*MANIFESTS, "index.html", "index.php", *SCRIPT_FILES, *ruby.SCRIPTS, *PYTHON_SCRIPTS)
# What a program begins with, in a directory where nothing else says that it is an app.
_ENTRIES = frozenset(
    (
        *("index.php", "main.go", "config.ru", "Main.java", "streamlit_app.py"),
        *(*MANIFESTS, *SCRIPT_FILES, *TYPESCRIPT_FILES, *ruby.SCRIPTS, *PYTHON_SCRIPTS),
    )
)
# Not apps, whatever is in them.
_PARTS = word_set(
    "templates views partials layouts includes static assets vendor fixtures samples sample "
    "tools screenshots images coverage config"
)
# With these, and a script, a directory beside ready pages is their server's …
_PYTHONS = ("requirements.txt", "pyproject.toml", "Pipfile")
_FUNCTIONS = ("api", "functions", "netlify", "supabase")  # … and not what another host runs
_PAGE = "index.html"
_PROGRAM_MARKERS = tuple(name for name in _MARKERS if name != _PAGE)
_DEPTH = 3  # directories in one another
_FILES_LIMIT = 20_000  # names looked at
_NAMED_LIMIT = 6  # directories in a sentence
_NAME_CHARACTERS = 30


def app_folder(root: Folder, wanted: Asked, *, has_dockerfile: bool) -> tuple[Folder, list[str]]:
    """Returns the app's folder, and sentences that say why.

    Raises InvalidField for a directory that is not there, PlanNotFound for several apps.
    """
    if wanted.directory:
        if not root.has_directory(wanted.directory):
            problem = "is a file" if root.has(wanted.directory) else "is not in the upload"
            raise InvalidField("settings.directoryPath", f"{wanted.directory!r} {problem}")
        return root.below(wanted.directory), [f"settings.directoryPath is {wanted.directory}"]
    if has_dockerfile:
        return _dockerfiles_folder(root), []
    if wanted.commands:
        return root, []
    named, file = hosts.named_directory(root)
    if named:
        return root.below(named), [f"{file} says that the app is in {named}"]
    return _apps_folder(root)


def _dockerfiles_folder(root: Folder) -> Folder:
    """Returns the folder of the Dockerfile: the root, the only one, or the one of a compose file.

    Raises PlanNotFound for a compose file that builds several.
    """
    only = root.only_directory()
    if root.has(DOCKERFILE):
        return root
    place = only if only is not None else hosts.last_wishes(root).directory
    return root.below(place) if place and root.below(place).has(DOCKERFILE) else root


def _apps_folder(root: Folder) -> tuple[Folder, list[str]]:
    """Returns the folder that the files themselves make the app's, and why."""
    programs = [name for name in apps_below(root) if _is_program(root, name)]
    marker = root.first(*_PROGRAM_MARKERS)
    if marker is not None or (root.has(_PAGE) and len(programs) != 1):
        return root, []
    only = root.only_directory()
    if only is not None and _is_apps_own(root.below(only)):
        return root.below(only), [f"all files are in {only}, so the app is there"]
    found = apps_below(root) or _apps_deeper(root)
    if root.has(_PAGE) or _has_site_below(root):
        found = programs if len(programs) == 1 else []
    server = pages.server_of(root, found) if len(found) > 1 else ""
    if server:
        return root.below(server), [f"{server} has an app that serves the page beside it"]
    if len(found) > 1:
        built = hosts.last_wishes(root)
        if built.directory:
            return root.below(built.directory), [f"{built.file} builds {built.directory} alone"]
        raise PlanNotFound(f"{several(found)}.", looked_for=("settings.directoryPath",))
    if found:
        return root.below(found[0]), [f"{found[0]} is the only directory with an app of its own"]
    return root, []


def only_entry(root: Folder, *, is_incomplete: bool) -> str:
    """Returns the one directory with an app or a page of any kind in it, "" if there is none.

    Beside files of an app that can't be started, only a directory with a manifest of its own
    counts. Raises PlanNotFound for several directories.
    """
    if is_incomplete:
        found = [name for name in apps_below(root) if root.below(name).has("package.json")]
        return found[0] if len(found) == 1 and len(apps_below(root)) == 1 else ""
    programs, indexes, pages = set[str](), set[str](), set[str]()
    for directory, name in _files(root):
        folded = name.lower()
        if name in _ENTRIES:
            programs.add(directory)
        elif folded == "index.html":
            indexes.add(directory)
        elif folded.endswith((".html", ".htm")):
            pages.add(directory)
    kinds = (_outermost(found) for found in (programs, indexes, pages))
    places = next((found for found in kinds if found), [])
    if len(places) > 1:
        raise PlanNotFound(f"{several(places)}.", looked_for=("settings.directoryPath",))
    return places[0] if places else ""


def _files(root: Folder) -> Iterator[tuple[str, str]]:
    """Yields the directory and the name of files that may be an app's, a few directories deep."""
    for path in islice(root.names(), _FILES_LIMIT):
        directory, _, name = path.rpartition("/")
        parts = directory.split("/")
        is_near = bool(directory) and len(parts) <= _DEPTH
        if is_near and not is_aside(path) and _PARTS.isdisjoint(parts):
            yield directory, name


def _outermost(directories: set[str]) -> list[str]:
    """Returns the directories that are in none of the others, sorted."""
    return sorted(
        directory
        for directory in directories
        if directories.isdisjoint(it.as_posix() for it in PurePosixPath(directory).parents)
    )


def _is_apps_own(folder: Folder) -> bool:
    """Whether the app's imports and paths start here; those of a Python package start above it."""
    markers = MANIFESTS if folder.has("__init__.py") else _MARKERS
    return folder.first(*markers) is not None


def _has_site_below(root: Folder) -> bool:
    """Whether there is a site of ready pages below, which other directories may be parts of."""
    if root.first("public/index.php", "web/index.php") is not None:
        return True
    return any(
        root.has(f"{name}/index.html") and root.below(name).first(*MANIFESTS) is None
        for name in static.ROOTS
        if name not in ("", "docs")
    )


def _is_program(root: Folder, name: str) -> bool:
    """Whether a directory beside pages is plainly a Python server's, which may serve them."""
    place = root.below(name)
    is_php = root.first("public/index.php", "web/index.php") is not None
    has_script = place.first("manage.py", *PYTHON_SCRIPTS) is not None
    return has_script and place.first(*_PYTHONS) is not None and not (is_php or name in _FUNCTIONS)


def apps_below(root: Folder) -> list[str]:
    """Returns the directories right inside that are apps of their own."""
    return [name for name in root.directories() if root.below(name).first(*MANIFESTS) is not None]


def _apps_deeper(root: Folder) -> list[str]:
    """Returns several apps that are two directories deep, such as services/api; none for one."""
    places = [
        f"{around}/{name}"
        for around in root.directories()
        if around not in _PARTS and not is_aside(f"{around}/x")
        for name in root.below(around).directories()
        if root.below(f"{around}/{name}").first(*MANIFESTS) is not None
    ]
    return places if len(places) > 1 else []


_BEGINS = frozenset(("package.json", *SCRIPT_FILES, *PYTHON_SCRIPTS))


def examples_below(root: Folder) -> list[str]:
    """Returns the directories of examples in which an app begins, such as examples/chat."""
    places = (name.rpartition("/") for name in root.names() if name.startswith(("example", "demo")))
    return sorted({place for place, _, file in places if "/" in place and file in _BEGINS})


def several(apps: list[str]) -> str:
    """Returns the sentence that refuses several apps."""
    names = ", ".join(name[:_NAME_CHARACTERS] for name in apps[:_NAMED_LIMIT])
    names += f" and {len(apps) - _NAMED_LIMIT} more" if len(apps) > _NAMED_LIMIT else ""
    page, server = (
        next((name for name in apps if name.rpartition("/")[2] in words), "")
        for words in (_OF_PAGES, _OF_SERVERS)
    )
    is_pair = page and server and len(apps) == _PAIR
    one = f"let {server} serve what {page} builds, and send both; or " if is_pair else ""
    return (
        f"There are apps in {names}: {one}set settings.directoryPath to the one to deploy, and "
        "deploy each under a name of its own"
    )


_PAIR = 2
_OF_PAGES = ("frontend", "client", "web", "ui", "webapp", "front")
_OF_SERVERS = ("backend", "server", "api", "back")
