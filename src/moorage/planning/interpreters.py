"""Finds which language a given start command runs, and whether the machine has it."""

import re

from moorage.errors import RuntimeUnsupported
from moorage.planning.node.package_json import package_json
from moorage.planning.reading.folder import Folder
from moorage.planning.recipe import quoted
from moorage.planning.toolbox import Tool, Toolbox

# Programs that come with a language, or that only its packages bring.
_LANGUAGES = {
    "ruby": (
        *("ruby", "bundle", "bundler", "rails", "rake", "rackup", "puma", "unicorn", "thin"),
        *("passenger", "jekyll", "middleman"),
    ),
    "php": ("php", "artisan", "heroku-php-apache2", "heroku-php-nginx", "composer"),
    "java": ("java", "mvn", "mvnw", "gradle", "gradlew"),
    "go": ("go",),
    "rust": ("cargo",),
    "deno": ("deno",),
    "bun": ("bun", "bunx"),
    "elixir": ("mix", "iex", "elixir"),
    "dotnet": ("dotnet",),
    "clojure": ("lein", "clj", "clojure"),
    "scala": ("sbt", "scala"),
    "swift": ("swift",),
    "dart": ("dart",),
    "r": ("R", "Rscript"),
    "julia": ("julia",),
    "crystal": ("crystal", "shards"),
    "haskell": ("stack", "cabal", "runghc"),
    "perl": ("plackup", "hypnotoad", "starman"),
}
_LANGUAGE_OF = {program: name for name, programs in _LANGUAGES.items() for program in programs}
_SEPARATOR = re.compile(r"&&|\|\||[;|\n(){}]")
_BEFORE = re.compile(r"(?:[A-Za-z_]\w*=[^\s'\"]*[ \t]+|(?:exec|env|nohup|time)[ \t]+)*")
_PROGRAM = re.compile(r"[\w./+-]{1,200}(?=[ \t]|\Z)")


def interpreters(
    command: str, folder: Folder, toolbox: Toolbox, *, source: str
) -> tuple[Tool, ...]:
    """Returns the languages that a given start command runs, of those besides Node and Python.

    Raises RuntimeUnsupported, naming the source, for one that the machine lacks.
    """
    found: dict[str, Tool] = {}
    for part in _SEPARATOR.split(command):
        match = _PROGRAM.match(_BEFORE.sub("", part.strip(), count=1))
        program = match[0].rpartition("/")[2] if match else ""
        language = _LANGUAGE_OF.get(program)
        if language is None or _is_apps_own(folder, program, language):
            continue
        tool = next(iter(reversed(toolbox.tools(language))), None)
        if tool is None:
            raise RuntimeUnsupported(
                source, f"{quoted(command)!r} runs {program}, but this gateway has no {language}"
            )
        found[language] = (toolbox.own(language) or [tool])[0]
    return tuple(found.values())


def _is_apps_own(folder: Folder, program: str, language: str) -> bool:
    """Whether a package of npm brings the program, as some do."""
    manifest = package_json(folder) if language in ("bun", "deno") else None
    return manifest is not None and manifest.depends_on(program.removesuffix("x"))
