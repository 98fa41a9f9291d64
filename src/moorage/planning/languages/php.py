"""PHP apps: Laravel, Symfony or any index.php, served by PHP's own server, without dotfiles."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from shlex import quote
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.explicit import Asked, Wanted, find_tool, wanted_from
from moorage.planning.plan import Recipe, Stack
from moorage.planning.python.objects import is_aside
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import word_tuple
from moorage.planning.risks import EXTENSIONS_OF
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = (
    "index.php, also in public/, web/ or webroot/, or index.html beside files of PHP; artisan",
)
_REQUIRES = re.compile(r'"php"\s*:\s*"([^"]{1,60})"')
_INDEXES = word_tuple(
    "public/index.php web/index.php webroot/index.php index.php htdocs/index.php "
    "public_html/index.php www/index.php"
)
_OTHERS = ("package.json", "requirements.txt", "pyproject.toml", "Gemfile", "_config.yml")
_NAMES_LIMIT = 2_000
_LIMIT = 65_536  # bytes of composer.json
_LOCK_LIMIT = 2_097_152  # bytes of composer.lock
_NAMED_LIMIT = 6  # extensions in a sentence


class _Framework(NamedTuple):
    """What a framework needs that an upload usually lacks, found by its own file."""

    file: str
    environment: tuple[tuple[str, str], ...]
    secret: str  # a variable with a random value of 32 characters
    migrates: str = ""  # a command that runs before each start, as builds see no database
    migrations: str = ""  # the directory without which there are none
    file_asked_for: str = ""  # without which it ends, also in scripts that Composer runs
    builds: tuple[str, str] = ("", "")  # a file, and the command that it asks for


_FRAMEWORKS = (
    _Framework(
        "artisan",
        (("LOG_CHANNEL", "stderr"),),
        "APP_KEY",
        "php artisan migrate --force",
        "database/migrations",
    ),
    _Framework(
        "bin/console",
        (("APP_ENV", "prod"), ("APP_DEBUG", "0")),
        "APP_SECRET",
        "php bin/console doctrine:migrations:migrate --no-interaction --allow-no-migration",
        "migrations",
        ".env",
        ("importmap.php", "php bin/console asset-map:compile"),
    ),
)
_PLAIN = _Framework("", (), "")

# PHP's server would serve every file. By itself it sends paths without a file to index.php.
ROUTER = """\
<?php
$path = rawurldecode(parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH) ?: "");
if (preg_match("#/[.](?!well-known/)|[.](?:db|sqlite3?)\\z#i", $path)) {
    http_response_code(404);
    return true;
}
return false;
"""


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """An index.php; None without. Raises RuntimeUnsupported, also for extensions that lack."""
    index, build = folder.first(*_INDEXES) or _page(folder), None
    if index is None and (only := _only_file(folder)) is not None:
        index, build = only, f"cp -n -- {quote(only)} index.php"
    if index is None:
        return None
    found = find_tool(toolbox, "php", asked.version_of("php") or _wanted(folder), file=index)
    because = [f"{index} is there: run by PHP's own server"]
    if build is not None:
        because.append(f"{index} is the only one of PHP: / leads to it, as there is no index.php")
    install = None
    composer_json = _document(folder, "composer.json", _LIMIT)
    _refuse_extensions(folder, composer_json, toolbox)
    framework = next((it for it in _FRAMEWORKS if folder.has(it.file)), _PLAIN)
    if folder.has("composer.json") and _installs(composer_json):
        composer = find_tool(toolbox, "composer", None, file="composer.json")
        because.append(f"composer.json is there: {composer.tool}")
        file = framework.file_asked_for
        install = f"touch {file} && " if file and not folder.has(file) else ""
        install += "composer install --no-dev --no-interaction --optimize-autoloader"
        build = framework.builds[1] if folder.has(framework.builds[0]) else build
    directory = index.rpartition("/")[0] or "."
    because.append(found.because)
    start = serve(directory)
    if framework.migrations and folder.has_directory(framework.migrations):
        because.append(f"{framework.migrations} is there: {framework.migrates} before each start")
        start = f"{framework.migrates}\n{start}"
    recipe = Recipe(
        Stack.PHP,
        install,
        build,
        start,
        tuple(because),
        build_env=framework.environment,
        run_env=(*framework.environment, ("PHP_CLI_SERVER_WORKERS", "4")),
        tools=(found.tool,),
        secrets=(framework.secret,) if framework.secret else (),
    )
    return asked.over(recipe)


def _page(folder: Folder) -> str | None:
    """Returns a page beside which programs of PHP are, in an upload of nothing else."""
    page = folder.first("index.html", "index.htm", "public/index.html")
    if page is None or folder.first(*_OTHERS):
        return None
    inside = page.rpartition("/")[0]
    names = islice(folder.names(), _NAMES_LIMIT)
    programs = (it for it in names if it.endswith(".php") and it.startswith(inside))
    return page if any(not is_aside(it) for it in programs) else None


def _only_file(folder: Folder) -> str | None:
    """Returns the only file of PHP right inside, in an upload of no other language."""
    if folder.first(*_OTHERS, "composer.json"):
        return None
    names = [name for name in folder.files() if name.endswith(".php")]
    return names[0] if len(names) == 1 else None


def _document(folder: Folder, name: str, limit: int) -> Mapping[str, object] | None:
    """Returns a file of Composer; an empty one without it, None if it can't be read."""
    if not folder.has(name):
        return {}
    try:
        document = json.loads(folder.data(name, limit=limit))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _installs(document: Mapping[str, object] | None) -> bool:
    """Whether composer.json asks for packages, not only for PHP and its extensions."""
    if document is None:
        return True  # Composer says best what is wrong with it
    loads = document.get("autoload") or document.get("scripts")
    names = _required(document)
    return bool(loads) or any(name != "php" and not name.startswith("ext-") for name in names)


def _required(document: object, key: str = "require") -> Iterator[str]:
    required = document.get(key) if isinstance(document, dict) else None
    yield from required if isinstance(required, dict) else ()


def _refuse_extensions(
    folder: Folder, document: Mapping[str, object] | None, toolbox: Toolbox
) -> None:
    """Raises RuntimeUnsupported for extensions that the app requires and PHP here has not.

    Packages may provide some, as Symfony's polyfills do.
    """
    has = {name for name in toolbox.programs if name.startswith("ext-")}
    if not has or document is None:
        return
    lock = _document(folder, "composer.lock", _LOCK_LIMIT) or {}
    listed = lock.get("packages")
    packages = listed if isinstance(listed, list) else []
    asking = dict.fromkeys(_required(document), "composer.json")
    for package in [] if packages else [*asking]:
        needs = (f"ext-{name}" for name in EXTENSIONS_OF.get(package, ()))
        asking |= dict.fromkeys(needs, "composer.json")
    for package in packages:
        for name in _required(package):
            asking.setdefault(name, "composer.lock")
        has.update(_required(package, "provide"))
    missing = [n for n in asking if n.startswith("ext-") and n.lower() not in has]
    if missing:
        raise RuntimeUnsupported(
            folder.path(asking[missing[0]]),
            f"this gateway's PHP has no {', '.join(missing[:_NAMED_LIMIT])}. {toolbox.otherwise}",
        )


def serve(directory: str) -> str:
    """Returns the command that serves a directory without its dotfiles and databases."""
    return (
        f"cat > \"$TMPDIR/router.php\" <<'ROUTER'\n{ROUTER}ROUTER\n"
        "exec php -d display_errors=0 -d log_errors=1 "  # visitors must not see errors
        f'-S 0.0.0.0:$PORT -t {directory} "$TMPDIR/router.php"'
    )


def _wanted(folder: Folder) -> Wanted | None:
    if not folder.has("composer.json"):
        return None
    match = _REQUIRES.search(folder.plain("composer.json"))
    return wanted_from(re.sub(r"\|+", "||", match[1]), "composer.json's php") if match else None
