"""PHP apps: Laravel or any index.php, served by PHP's own server, without dotfiles."""

import json
import re

from moorage.planning.explicit import Asked, Wanted, find_tool, wanted_from
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = ("index.php, also in public/ or web/; artisan",)
_REQUIRES = re.compile(r'"php"\s*:\s*"([^"]{1,60})"')
_LIMIT = 65_536  # bytes of composer.json

# PHP's server would serve every file. By itself it sends paths without a file to index.php.
ROUTER = """\
<?php
$path = rawurldecode(parse_url($_SERVER["REQUEST_URI"], PHP_URL_PATH) ?: "");
if (preg_match("#/[.](?!well-known/)#", $path)) {
    http_response_code(404);
    return true;
}
return false;
"""


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """An index.php; None without. Raises RuntimeUnsupported."""
    index = folder.first("public/index.php", "web/index.php", "index.php")
    if index is None:
        return None
    found = find_tool(toolbox, "php", _wanted(folder, asked))
    because = [f"{index} is there: run by PHP's own server"]
    install = None
    if folder.has("composer.json") and _installs(folder):
        composer = find_tool(toolbox, "composer", None)
        because.append(f"composer.json is there: {composer.tool}")
        install = "composer install --no-dev --no-interaction --optimize-autoloader"
    directory = index.rpartition("/")[0] or "."
    if found.because:
        because.append(found.because)
    return Recipe(
        Stack.PHP,
        install if asked.install is None else asked.install,
        asked.build,
        asked.run or serve(directory),
        tuple(because),
        run_env=(("PHP_CLI_SERVER_WORKERS", "4"),),
        tools=(found.tool,),
    )


def _installs(folder: Folder) -> bool:
    """Whether composer.json asks for packages, not only for PHP and its extensions."""
    try:
        document = json.loads(folder.data("composer.json", limit=_LIMIT))
        names = {**document.get("require", {})}.keys()
        loads = document.get("autoload") or document.get("scripts")
    except (ValueError, RecursionError, TypeError, AttributeError):
        return True  # Composer says best what is wrong with it
    return bool(loads) or any(name != "php" and not name.startswith("ext-") for name in names)


def serve(directory: str) -> str:
    """Returns the command that serves a directory without its dotfiles."""
    return (
        f"cat > \"$TMPDIR/router.php\" <<'ROUTER'\n{ROUTER}ROUTER\n"
        "exec php -d display_errors=0 -d log_errors=1 "  # visitors must not see errors
        f'-S 0.0.0.0:$PORT -t {directory} "$TMPDIR/router.php"'
    )


def _wanted(folder: Folder, asked: Asked) -> Wanted | None:
    if asked.program == "php" and asked.version is not None:
        return asked.version
    if not folder.has("composer.json"):
        return None
    match = _REQUIRES.search(folder.data("composer.json", limit=_LIMIT).decode(errors="replace"))
    return wanted_from(match[1].replace("|", "||"), "composer.json's php") if match else None
