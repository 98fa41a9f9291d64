"""Pages in a directory of their own beside an app: those that it serves, and those it leaves out.

An app serves a directory where its code names it. Nothing is run: the code is searched for the
directory's name, in files of a bounded number and size.
"""

import posixpath
import re
from collections.abc import Iterator
from itertools import islice
from shlex import quote

from moorage.planning import static
from moorage.planning.explicit import Asked
from moorage.planning.node import app as node
from moorage.planning.node.package_json import (
    builds_directory,
    builds_workspaces,
    command_of,
    is_for_development,
    package_json,
)
from moorage.planning.node.workspaces import monorepo
from moorage.planning.plan import Plan, Recipe, Stack
from moorage.planning.python.objects import is_aside
from moorage.planning.reading.folder import Folder, SourceTree
from moorage.planning.reading.formats import word_tuple
from moorage.planning.toolbox import Toolbox
from moorage.records.deployment import Finding, FindingKind

_CODE = word_tuple(
    ".py .js .mjs .cjs .ts .mts .go .rs .rb .php .java .kt package.json .toml .yml .yaml .sh "
    "Procfile Makefile .ru"
)
_FILES_LIMIT = 300  # of code that are searched
_FILE_LIMIT = 131_072  # bytes of each
_NAMES_LIMIT = 20_000
_NEVER = frozenset(("docs", "data", "coverage", "htmlcov", "vendor", "demo", "tools", "infra"))
# Directories whose pages are parts of the app around them, whether its code names them or not.
_PARTS = frozenset(
    (
        *word_tuple("public static assets templates views dist build out docs src"),
        *("app", "lib", "pages", "resources", "www", "_site", "layouts", "includes", "partials"),
        *("themes", "theme", "email", "emails", "storage", "media", *_NEVER),
    )
)
# Files with which a directory is a program's, beside a site.
_PROGRAMS = word_tuple(
    "requirements.txt pyproject.toml manage.py go.mod composer.json Gemfile Cargo.toml pom.xml "
    "app.py main.py server.py"
)
_PAGES = ("index.html", "public/index.html", "dist/index.html")
_NAMED_LIMIT = 3  # directories that are named in a warning
_OUTSIDE = re.compile(rb"outDir\s*:[^\n]{0,60}['\"]\.\./")
_CONFIGURATIONS = ("vite.config.js", "vite.config.ts", "vite.config.mjs", "vue.config.js")


def built_page(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Returns the build of a page that the folder's app serves; None without one.

    Its commands run in the folder. Scripts of the app's own may build the page already.
    """
    root = (folder, *folder.parents())[-1]
    for name in _beside(root, folder):
        place = root.below(name)
        if not place.has("package.json") or _is_built(folder, name):
            continue
        if not (_names_output(folder, name) or _builds_outside(place)):
            continue
        page = node.page_build(place, asked, toolbox)
        if page is not None:
            enter = f"cd {quote(posixpath.relpath(name, folder.directory or '.'))}"
            install = f"({enter} &&\n{page.install}\n)" if page.install else None
            said = tuple(f"{name}: {sentence}" for sentence in page.because)
            return page._replace(install=install, build=f"({enter} && {page.build})", because=said)
    return None


def server_of(root: Folder, apps: list[str]) -> str:
    """Returns the one of the apps that serves what all others build; "" if there is none."""
    serving = [app for app in apps if all(_serves(root, app, it) for it in apps if it != app)]
    return serving[0] if len(serving) == 1 else ""


def _serves(root: Folder, app: str, name: str) -> bool:
    place = root.below(name)
    is_page = place.has("package.json") and name not in _PARTS
    return is_page and (_names_output(root.below(app), name) or _builds_outside(place))


def left_out(tree: SourceTree, plan: Plan) -> list[Finding]:
    """Returns directories of the upload with pages, or a program, that the planned app ignores."""
    if plan.stack is Stack.DOCKERFILE or (plan.build or "").startswith("# build, as the Dock"):
        return []
    root = Folder(tree)
    folder = root.below(plan.directory) if plan.directory else root
    commands = "\n".join(filter(None, (plan.install, plan.build, plan.start)))
    is_site = static.is_site(plan.start)
    found: list[Finding] = []
    for name in _beside(root, folder):
        what = _what(root.below(name), is_site=is_site)
        is_named = bool(re.search(rf"\b{re.escape(name)}\b", commands))
        if what and not is_named and (is_site or not _code_matches(folder, name, _named(name))):
            found.append(Finding(FindingKind.LEFT_OUT, name, what))
    page = "index.html"
    if plan.directory and root.has(page) and not _code_matches(folder, "", _named(page)):
        found.append(Finding(FindingKind.LEFT_OUT, page, ""))
    return found[:_NAMED_LIMIT]


def _beside(root: Folder, folder: Folder) -> Iterator[str]:
    """Yields the directories, from the root, that may be pages of the folder's app."""
    top = folder.directory.partition("/")[0]
    parts = _NEVER if top else _PARTS
    for name in root.directories():
        if name != top and name not in parts and not is_aside(f"{name}/x"):
            yield name
    if folder.directory:
        yield from (
            f"{folder.directory}/{name}" for name in folder.directories() if name not in _PARTS
        )


def _what(place: Folder, *, is_site: bool) -> str:
    """Returns what a directory holds that visitors may miss; "" if nothing.

    Beside a site that is a program; its other pages are files that it may serve.
    """
    name = place.first(*(_PROGRAMS if is_site else _PAGES))
    if is_site and name is None and _starts(place):
        name = "package.json"
    kind = "a program of its own" if is_site else "pages"
    return f"{kind} ({name})" if name else ""


def _starts(place: Folder) -> bool:
    """Whether a directory's package has a start script that is no development server."""
    manifest = package_json(place)
    if manifest is None:
        return False
    command = command_of(manifest, "start")
    return bool(command) and not is_for_development(command)


def _named(name: str) -> re.Pattern[bytes]:
    short = re.escape(name.rpartition("/")[2].encode())
    return re.compile(rb"(?<![\w-])%b(?![\w-])" % short)


def _names_output(folder: Folder, name: str) -> bool:
    """Whether the app's code names the directory that the page's build leaves."""
    short = re.escape(name.rpartition("/")[2].encode())
    output = rb"(?<![\w-])%b['\"]?\s{0,9}[,/)\s]{1,9}['\"]?(?:dist|build|out)\b"
    return _code_matches(folder, name, re.compile(output % short))


def _is_built(folder: Folder, name: str) -> bool:
    """Whether a script that runs here builds the directory's page."""
    manifest = package_json(folder)
    if manifest is None:
        return False
    if builds_workspaces(manifest) and (found := monorepo(folder, manifest)) is not None:
        inside = name.removeprefix(f"{folder.directory}/") if folder.directory else name
        if found.at(inside) is not None:
            return True
    return builds_directory(manifest, name.rpartition("/")[2])


def _builds_outside(place: Folder) -> bool:
    """Whether the page's build leaves its files in the app's directory."""
    name = place.first(*_CONFIGURATIONS)
    return name is not None and _OUTSIDE.search(place.data(name, limit=_FILE_LIMIT)) is not None


def _code_matches(folder: Folder, but: str, pattern: re.Pattern[bytes]) -> bool:
    """Whether any of the app's own code outside of a directory has the pattern."""
    inside = f"{but.removeprefix(f'{folder.directory}/') if folder.directory else but}/"
    names = (
        name
        for name in islice(folder.names(), _NAMES_LIMIT)
        if name.endswith(_CODE) and not name.startswith(inside) and not is_aside(name)
    )
    return any(
        pattern.search(folder.data(name, limit=_FILE_LIMIT)) is not None
        for name in islice(names, _FILES_LIMIT)
    )
