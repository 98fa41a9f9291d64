"""Turns the shell lines of RUN, CMD and ENTRYPOINT into lines that run unprivileged in the sandbox.

What needs no doing here (users, owners, lists of packages) is left out. What can't be done, or
isn't known, is refused with the name of the command.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from shlex import quote

from moorage.planning.dockerfile.layout import SYSTEM_PATH, VENV, Layout, is_below
from moorage.planning.dockerfile.parser import Instruction
from moorage.planning.reading.formats import table, word_set, word_tuple
from moorage.planning.toolbox import Tool

_PACKAGES = table("dockerfile/packages")
_NEEDLESS = frozenset(_PACKAGES["needless"].split())
_BROUGHT = {name: (name,) for name in _PACKAGES["same"].split()} | {
    name: tuple(programs.split())
    for programs, names in _PACKAGES["programs"].items()
    for name in names.split()
}
PROGRAMS = tuple(sorted({program for programs in _BROUGHT.values() for program in programs}))
"""All that these packages bring, of which a machine has some."""


def brought(package: str) -> tuple[str, ...] | None:
    """Returns the programs of a package, () where an app needs none; None for an unknown one."""
    name = package.partition("=")[0].partition(":")[0]
    return () if name in _NEEDLESS else _BROUGHT.get(name)


_TOKEN = re.compile(
    r"(?P<space>[ \t]+)|(?P<redirect>\d?>(?:&\d|>|\|)?)|(?P<separator>&&|\|\||;|\||\n)"
    r"|(?P<word>(?:'[^']*'|\"(?:[^\"\\`]|\\[\s\S])*\"|\\[\s\S]|\$\{[^{}`(]*\}|[^\s;&|<>()'\"\\`])+)"
)
_QUOTED = re.compile(r"'([^']*)'|\"((?:[^\"\\]|\\[\s\S])*)\"|\\([\s\S])")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_KEYWORDS = frozenset(("if", "then", "elif", "else", "fi", "!"))
_FILES = word_set(
    "mkdir cp mv rm ln touch chmod cat test [ cd ls find grep tar gzip gunzip install rmdir "
    "head tail du"
)
_SHELLS = word_set(
    "echo printf true false export set : exit sleep which command id whoami uname date pwd"
)
_NOTHING = word_set(
    "addgroup adduser useradd usermod groupadd groupmod chown chgrp ldconfig "
    "update-ca-certificates a2enmod a2ensite a2dismod locale-gen"
)
_SYSTEM = frozenset(("apt-get", "apt", "apk", "yum", "dnf", "microdnf"))
# Files of systems and servers, which are the machine's own here: changing them changes nothing.
_SETTINGS = word_tuple(
    "/etc/apt /etc/apk /etc/yum.repos.d /etc/ssl /etc/locale.gen /etc/pam.d /etc/php "
    "/usr/local/etc/php /etc/apache2 /etc/login.defs /etc/ImageMagick-6 /etc/passwd /etc/group "
    "/etc/security /etc/timezone /etc/localtime /var/lib/apt /var/cache /usr/share/doc "
    "/usr/share/man /etc/default"
)
_INITS = ("tini", "dumb-init")
_PYTHONS = word_set(
    "uvx poetry pipenv pdm flask django-admin alembic gunicorn uvicorn streamlit pytest"
)
_PIP_ALONE = word_set(
    "--no-cache-dir --user --break-system-packages --disable-pip-version-check "
    "--no-warn-script-location --no-input --ignore-installed -I"
)
_PIP_VALUED = ("--root-user-action", "--prefix", "--default-timeout", "--timeout", "--retries",
               "--progress-bar", "--cache-dir")  # fmt: skip
_GLOBAL = ("-g", "--global", "--location=global")
_MANAGER = re.compile(r"(npm|pnpm|yarn|corepack)(?:@(.{1,40}))?\Z")


@dataclass(kw_only=True)
class Scope:
    """What the commands of a stage may use, and what they add to it."""

    layout: Layout
    programs: set[str]
    known: set[str]  # directories and files of the image that the Dockerfile makes
    packages_at: set[str] = field(default_factory=set)  # where Python packages would be
    managers: dict[str, str] = field(default_factory=dict)  # pnpm and yarn: the version, or ""
    has_globals: bool = False  # npm installed programs for all
    parents: set[str] = field(default_factory=set)  # directories that an image has already
    configuration: str = ""  # the directory of its server's configuration, "" without one
    here: frozenset[str] = frozenset()  # what the machine has of the programs of packages
    checks: str = ""  # the Dockerfile's health checks, which are not run here

    def is_configuration(self, path: str) -> bool:
        """Whether a server that the machine's own stands for would read it."""
        return bool(self.configuration) and is_below(path, self.configuration)

    @property
    def is_python(self) -> bool:
        """Whether its commands run Python."""
        return "python" in self.programs

    def path(self, word: str, *, of_files: bool = False) -> str:
        """Replaces the image's paths in a word; a command on files makes its paths known."""
        if of_files:
            text, found = self.layout.rewritten(word, None)
            self.parents.update(
                self.layout.real(path.rstrip("/").rpartition("/")[0] or "/")
                for path in found
                if "*" not in path
            )
            self.known.update(path.rstrip("/*") for path in found if path.rstrip("/*"))
            return text
        return self.layout.rewritten(word, frozenset(self.known))[0]


def translated(instruction: Instruction, text: str, scope: Scope, *, starts: bool = False) -> str:
    """Returns the shell line for the sandbox. Raises RuntimeUnsupported, naming the command."""
    pieces: list[str] = []
    command: list[str] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None or "$(" in match[0]:
            raise instruction.refused("only plain commands, joined by &&, || or ;, are planned")
        place = match.end()
        if match.lastgroup in ("word", "redirect"):
            command.append(match[0])
        elif match.lastgroup == "separator":
            pieces += [_one(instruction, command, scope, starts=starts), match[0]]
            command = []
    pieces.append(_one(instruction, command, scope, starts=starts))
    return " ".join(piece for piece in pieces if piece)


def _one(instruction: Instruction, words: list[str], scope: Scope, *, starts: bool) -> str:
    """Translates one command, with the shell's keywords before it."""
    before: list[str] = []
    while words and words[0] in _KEYWORDS:
        before.append(words.pop(0))
    while words and _ASSIGNMENT.match(words[0]):
        before.append(scope.path(words.pop(0)))
    if not words:
        return " ".join(before)
    plain = [_unquoted(word) for word in words]
    while starts and plain[0].rpartition("/")[2] in _INITS:
        skip = 1 + sum(word in ("-g", "-s", "--", "-v") for word in plain[1:3])
        words, plain = words[skip:], plain[skip:]
        if not words:
            raise instruction.refused("it names no program")
    return " ".join((*before, _command(instruction, words, plain, scope, starts=starts)))


def _command(
    instruction: Instruction, words: list[str], plain: list[str], scope: Scope, *, starts: bool
) -> str:
    name = plain[0]
    base = name.rpartition("/")[2]
    if name.startswith("/") and base in scope.programs | _FILES | _SHELLS | _ALWAYS:
        name = plain[0] = words[0] = base
    if (
        base in _NOTHING
        or _is_noop(instruction, base, plain, scope)
        or _is_of_system(base, plain, scope)
    ):
        return "true"
    handler = _HANDLERS.get(name)
    if handler is not None and (name in scope.programs or name in _ALWAYS):
        return handler(instruction, words, plain, scope)
    if name in _FILES:
        return " ".join(scope.path(word, of_files=True) for word in words)
    own = next((place for d in SYSTEM_PATH if (place := f"{d}/{name}") in scope.known), "")
    if own:
        return _program(instruction, [own, *words[1:]], [own, *plain[1:]], scope)
    if (
        name in _SHELLS
        or name in scope.programs
        or "/" in name
        or _is_free(name, scope, starts=starts)
    ):
        return _program(instruction, words, plain, scope)
    raise instruction.refused(f"{name[:60]} is not among the programs that are known to be here")


def _is_free(name: str, scope: Scope, *, starts: bool) -> bool:
    """Whether a program may come from the packages that the app installs."""
    if scope.is_python and name in _PYTHONS:
        return True
    is_word = re.fullmatch(r"[A-Za-z][\w.-]{0,60}", name) is not None and name not in _OTHERS
    from_packages = scope.is_python or "ruby" in scope.programs or scope.has_globals
    return starts and is_word and from_packages


# Programs that no package of a language brings.
_OTHERS = word_set(
    "nginx apache2-foreground httpd supervisord gosu su-exec su sudo service systemctl node "
    "npm bun deno go cargo java php python python2 ruby perl curl wget make s6-svscan cron"
)


def _program(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    """Translates a program's words: known paths, and the file that it writes."""
    _check_made(instruction, plain[0], scope)
    said: list[str] = []
    for number, word in enumerate(words):
        before = plain[number - 1] if number else ""
        is_output = before in ("-o", "--out", "--output") or before.startswith((">", "1>", "2>"))
        said.append(scope.path(word, of_files=is_output))
    return " ".join(said)


def _check_made(instruction: Instruction, path: str, scope: Scope) -> None:
    """Raises RuntimeUnsupported for a path of the image that the Dockerfile does not make."""
    if path.startswith("/") and not any(is_below(path, one) for one in scope.known):
        raise instruction.refused(f"nothing in this Dockerfile makes {path[:100]}")


def _is_of_system(name: str, plain: list[str], scope: Scope) -> bool:
    """Whether a command only changes settings of a system or server that the machine replaces."""
    if name not in _FILES and name != "sed":
        return False
    words = [word for word in plain[1:] if not word.startswith("-")]
    paths = [word for word in words[name == "sed" :] if word.startswith("/")]
    return bool(paths) and all(
        scope.is_configuration(path) or any(is_below(path, one) for one in _SETTINGS)
        for path in paths
    )


def _sed(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    """Edits files that the Dockerfile makes; its script is no path, whatever it looks like."""
    scripts = [n for n, word in enumerate(plain) if n and plain[n - 1] in ("-e", "--expression")]
    if not scripts:
        scripts = [n for n, word in enumerate(plain) if n and not word.startswith("-")][:1]
    said = [plain[0]]
    for number in range(1, len(words)):
        if number in scripts:
            said.append(words[number])
            continue
        _check_made(instruction, plain[number], scope)
        said.append(scope.path(words[number]))
    return " ".join(said)


def _is_noop(instruction: Instruction, name: str, plain: list[str], scope: Scope) -> bool:
    """Whether a system's package manager has nothing to do. Raises RuntimeUnsupported if it has."""
    if name not in _SYSTEM:
        return False
    words = [word for word in plain[1:] if not word.startswith("-")]
    verb = words[0] if words else ""
    if verb in ("install", "add"):
        skip = plain.index("--virtual") if "--virtual" in plain else -1
        virtual = plain[skip + 1] if 0 <= skip < len(plain) - 1 else ""
        lacking = [w for w in words[1:] if w != virtual and not _is_here(w, scope)]
        if lacking:
            names = ", ".join(lacking[:5])
            raise instruction.refused(f"{name} needs root; apps here do not run as root: {names}")
    elif verb not in ("update", "upgrade", "clean", "autoremove", "autoclean", "del", "makecache"):
        raise instruction.refused(f"{name} {verb[:20]} needs root, which an app here is not")
    return True


def _is_here(package: str, scope: Scope) -> bool:
    """Whether the app can do without a package: here are its programs, or only checks use them."""
    programs = brought(package)
    if programs is None:
        return False
    if programs and all(re.search(rf"\b{re.escape(p)}\b", scope.checks) for p in programs):
        return True
    if not scope.here.issuperset(programs):
        return False
    scope.programs.update(programs)
    return True


def _pip(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    """Installs with uv into the app's virtual environment, wherever pip would have installed."""
    verb = plain[1] if len(plain) > 1 else ""
    if verb in ("cache", "config"):
        return "true"
    if verb != "install":
        raise instruction.refused(f"of pip, only install is planned, not {verb[:20] or 'nothing'}")
    kept: list[str] = []
    rest = iter(zip(words[2:], plain[2:], strict=True))
    for word, bare in rest:
        flag, equals, value = bare.partition("=")
        if flag in ("-t", "--target", "--root"):
            raise instruction.refused(f"{flag} is not planned: packages go to one environment")
        if flag in _PIP_VALUED:
            value = value if equals else next(rest, ("", ""))[1]
            if flag == "--prefix" and value.startswith("/"):
                scope.packages_at.add(value.rstrip("/"))
        elif re.fullmatch(r"uv(?:[=<>~!].*)?", bare):
            scope.programs.add("uv")
        elif bare not in _PIP_ALONE and not re.fullmatch(r"pip(?:[=<>~!].*)?", bare):
            kept.append(scope.path(word))
    if all(word.startswith("-") for word in kept):
        return "true"
    return " ".join(("uv pip install -q", *kept))


def _python(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    if plain[1:3] == ["-m", "pip"]:
        return _pip(instruction, words[2:], plain[2:], scope)
    if plain[1:3] == ["-m", "venv"]:
        scope.packages_at.update(word for word in plain[3:] if word.startswith("/"))
        return "true"  # there is one already
    return _program(instruction, words, plain, scope)


def _uv(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    if plain[1:2] == ["venv"]:
        return "true"
    kept = [w for w, bare in zip(words, plain, strict=True) if bare != "--system"]
    return _program(instruction, kept, [_unquoted(word) for word in kept], scope)


def _npm(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    if plain[1:2] == ["config"]:
        return "true"
    is_global = any(word in _GLOBAL for word in plain)
    if not is_global or not any(word in ("install", "i", "add") for word in plain):
        return _program(instruction, words, plain, scope)
    packages: list[str] = []
    for word in (word for word in plain[2:] if not word.startswith("-")):
        match = _MANAGER.match(word)
        if match is None:
            packages.append(word)
        elif match[1] in ("pnpm", "yarn"):
            _use_manager(scope, match[1], match[2])
        else:
            scope.programs.add(match[1])
    if not packages:
        return "true"
    scope.has_globals = True
    where = scope.layout.real("/usr/local")
    return " ".join(("npm install --global --prefix", where, *map(quote, packages)))


def _cargo(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    """Installs programs where the start finds them, and where the image would have them."""
    line = _program(instruction, words, plain, scope)
    if plain[1:2] != ["install"] or any(word.startswith("--root") for word in plain):
        return line
    scope.has_globals = True
    scope.known.add("/usr/local/cargo/bin")
    root, home = scope.layout.real("/usr/local"), scope.layout.real("/usr/local/cargo")
    return f"{line} --root {root} && mkdir -p {home} && ln -sfn ../bin {home}/bin"


def _corepack(_: Instruction, _words: list[str], plain: list[str], scope: Scope) -> str:
    named = [match for word in plain[2:] if (match := _MANAGER.match(word))]
    for match in named:
        if match[1] in ("pnpm", "yarn"):
            _use_manager(scope, match[1], match[2])
    if not named:
        scope.programs.update(("pnpm", "yarn"))
    return "true"


def _use_manager(scope: Scope, name: str, version: str | None) -> None:
    scope.programs.add(name)
    is_number = version is not None and re.fullmatch(r"\d+(\.\d+){0,2}", version) is not None
    if is_number or name not in scope.managers:
        scope.managers[name] = version if version is not None and is_number else ""


def _manager(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    _use_manager(scope, plain[0], None)
    return _program(instruction, words, plain, scope)


def _shell(instruction: Instruction, words: list[str], plain: list[str], scope: Scope) -> str:
    if any(word.startswith("-") and "c" in word for word in plain[1:2]):
        if len(plain) != 3:
            raise instruction.refused("only one line after -c is planned")
        return translated(instruction, plain[2], scope, starts=instruction.name != "RUN")
    return _program(instruction, words, plain, scope)


_Handler = Callable[[Instruction, list[str], list[str], Scope], str]
_HANDLERS: dict[str, _Handler] = {
    "pip": _pip, "pip3": _pip, "python": _python, "python3": _python, "uv": _uv,
    "npm": _npm, "corepack": _corepack, "pnpm": _manager, "yarn": _manager,
    "sh": _shell, "bash": _shell, "cargo": _cargo, "sed": _sed,
}  # fmt: skip
_ALWAYS = frozenset(("sh", "bash", "sed"))


def _unquoted(word: str) -> str:
    """Returns a word as the shell would pass it, variables unexpanded."""
    if "'" not in word and '"' not in word and "\\" not in word:
        return word
    return _QUOTED.sub(lambda m: m[1] or (m[2] or "").replace('\\"', '"') or m[3] or "", word)


def environment_of(scope: Scope, tool: Tool | None) -> dict[str, str]:
    """Returns the variables that lead Python's programs to the app's virtual environment.

    uv takes the image's Python, too, whatever a .python-version says.
    """
    if not scope.is_python or tool is None:
        return {}
    python = f"python{tool.version.major}.{tool.version.minor}"
    return {"VIRTUAL_ENV": VENV, "UV_PROJECT_ENVIRONMENT": VENV, "UV_PYTHON": python}
