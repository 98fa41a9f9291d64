"""Follows a Dockerfile's stages: what each sets, and the shell lines that make its files."""

import posixpath
import re
from dataclasses import dataclass, field
from itertools import islice
from shlex import join, quote
from typing import NamedTuple

from moorage.planning.dockerfile.commands import Scope, environment_of, translated
from moorage.planning.dockerfile.layout import (
    APP,
    CONTEXT,
    SYSTEM_PATH,
    Layout,
    Upload,
    in_image,
    is_below,
)
from moorage.planning.dockerfile.parser import Instruction, expand, split
from moorage.planning.explicit import ENV_ENTRIES_LIMIT, find_tool, wanted_from
from moorage.planning.plan import Stack
from moorage.planning.reading.formats import word_set
from moorage.planning.toolbox import Tool, Toolbox

# Docker Hub's own names, and registries that hold the same official images.
_HUB = (
    r"(?:(?:docker\.io|index\.docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com"
    r"|mirror\.gcr\.io|public\.ecr\.aws/docker)/)?(?:library/)?"
)
_REFERENCE = re.compile(
    rf"{_HUB}(?P<name>[a-z0-9][\w./-]{{0,199}}?)(?::(?P<tag>[\w.-]{{1,128}}))?"
    r"(?:@sha256:[0-9a-f]{64})?\Z"
)
_COMPOSER = re.compile(rf"{_HUB}composer(?:[:@].*)?\Z")
_NUMBER = re.compile(r"(?:^|-)v?(\d{1,4}(?:\.\d{1,4}){0,2})(?=-|\Z)")


class Image(NamedTuple):
    """A base image: its language, and what its own Dockerfile sets."""

    reference: str  # as it is written
    stack: Stack | None  # None for an image without a language
    tool: Tool | None
    programs: frozenset[str] = frozenset()  # that its commands may run
    workdir: str = "/"
    environment: tuple[tuple[str, str], ...] = ()  # values are paths in the image
    server: str = ""  # what it starts without a CMD: nginx, caddy, apache2-foreground
    configuration: str = ""  # the directory of its server's configuration
    roots: tuple[str, ...] = ()  # directories of its own, which hold an app or what it reads
    directories: tuple[str, ...] = ()  # of any system

    def has_directory(self, path: str) -> bool:
        """Whether the image has it, so that a file which is copied there is put inside."""
        return path in (*self.directories, *self.roots, self.workdir, self.configuration)


class _Kind(NamedTuple):
    stack: Stack
    program: str
    programs: tuple[str, ...]
    parts: int  # of the tag's version that must be the same
    is_newer_fine: bool = False  # a later version of the same major runs it as well
    later_minors: int = 0  # that will do, the nearest first
    workdir: str = "/"
    environment: tuple[tuple[str, str], ...] = ()
    server: str = ""
    configuration: str = ""
    roots: tuple[str, ...] = ()


_HOMES = "/home"
_IMAGES_UV, _UVS_PYTHON = "ghcr.io/astral-sh/uv", re.compile(r"(?:^|-)python(\d+\.\d+)")
_DIRECTORIES = (
    *("/bin", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/root", "/run", "/sbin", "/srv"),
    *("/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib"),  # noqa: S108
    *("/usr/local/sbin", "/usr/local/share", "/usr/sbin", "/usr/share", "/usr/src", "/var"),
    *("/var/lib", "/var/log", "/var/tmp"),  # noqa: S108
)
_NGINX = _Kind(
    Stack.STATIC, "caddy", ("nginx",), 0, server="nginx", configuration="/etc/nginx",
    roots=("/usr/share/nginx/html", "/etc/nginx/conf.d", "/etc/nginx/templates"),
)  # fmt: skip
_APACHE_ROOTS = ("/var/www", "/var/www/html")
_KINDS = {
    "node": _Kind(Stack.NODE, "node", ("node", "npm", "npx", "corepack", "yarn"), 1),
    "oven/bun": _Kind(Stack.NODE, "bun", ("bun", "bunx"), 1, workdir=f"{_HOMES}/bun/app"),
    "denoland/deno": _Kind(
        Stack.DENO, "deno", ("deno",), 1, environment=(("DENO_DIR", "/deno-dir"),)
    ),
    "python": _Kind(
        Stack.PYTHON, "python", ("python", "python3", "pip", "pip3"), 2, later_minors=2
    ),
    "golang": _Kind(Stack.GO, "go", ("go",), 2, True, workdir="/go"),
    "rust": _Kind(Stack.RUST, "rust", ("cargo", "rustc"), 2, True),
    "ruby": _Kind(
        Stack.RUBY, "ruby", ("ruby", "bundle", "gem"), 2,
        environment=(("GEM_HOME", "/usr/local/bundle"), ("BUNDLE_PATH", "/usr/local/bundle")),
    ),
    "php": _Kind(Stack.PHP, "php", ("php",), 2, True),
    "nginx": _NGINX,
    "nginxinc/nginx-unprivileged": _NGINX,
    "httpd": _Kind(
        Stack.STATIC, "caddy", (), 0, workdir="/usr/local/apache2", server="httpd-foreground",
        configuration="/usr/local/apache2/conf", roots=("/usr/local/apache2/htdocs",),
    ),
    "caddy": _Kind(
        Stack.STATIC, "caddy", ("caddy",), 0, workdir="/srv", server="caddy",
        configuration="/etc/caddy", roots=("/usr/share/caddy",),
    ),
}  # fmt: skip
# Without a language: for programs that another stage has built.
_BARE = re.compile(r"(?:scratch|alpine|debian|ubuntu|busybox|gcr\.io/distroless/(?:static|base|cc))"
                   r"(?:-debian\d+)?\Z")  # fmt: skip
_PLAIN = ", ".join(sorted({*_KINDS, "alpine", "debian", "scratch"}))


def image_of(instruction: Instruction, reference: str, toolbox: Toolbox) -> Image:
    """Returns the image of a FROM. Raises RuntimeUnsupported if it can't be had here."""
    match = _REFERENCE.match(reference)
    name, tag = (match["name"], match["tag"] or "") if match else ("", "")
    if _BARE.match(name):
        own = () if name == "scratch" else _DIRECTORIES
        return Image(reference, None, None, directories=own)
    pythons = _UVS_PYTHON.search(tag) if name == _IMAGES_UV else None
    if pythons is not None:
        name, tag = "python", pythons[1]
    kind = _KINDS.get(name)
    if kind is None:
        raise instruction.refused(
            f"only plain images are planned here ({_PLAIN}); with hasDockerfile: false the build "
            "is planned from the files"
        )
    server, roots = kind.server, kind.roots
    if kind.stack is Stack.PHP:
        if "fpm" in tag:
            raise instruction.refused("PHP-FPM needs a web server beside it; take php or its -cli")
        server = "apache2-foreground" if "apache" in tag else ""
        roots = _APACHE_ROOTS if server else roots
    return Image(
        reference, kind.stack, _tool(instruction, kind, tag, toolbox),
        frozenset((*kind.programs, "uv") if pythons else kind.programs),
        "/var/www/html" if server == "apache2-foreground" else kind.workdir,
        kind.environment, server, kind.configuration, roots, _DIRECTORIES,
    )  # fmt: skip


def is_composer(reference: str) -> bool:
    """Whether it is the image of PHP's package manager, which is here already."""
    return _COMPOSER.match(reference) is not None


def _tool(instruction: Instruction, kind: _Kind, tag: str, toolbox: Toolbox) -> Tool:
    """Returns the program of the tag's version: exactly that one, or the nearest that runs it."""
    match = _NUMBER.search(tag) if kind.parts else None
    source = f"Dockerfile line {instruction.line}"
    if match is None:
        return find_tool(toolbox, kind.program, wanted_from("*", source)).tool
    parts = match[1].split(".")
    line = ".".join(parts[: kind.parts])
    fitting = f">={line} <{int(parts[0]) + 1}" if kind.is_newer_fine else line
    minor = int(parts[1]) if len(parts) > 1 else 0
    later = (f"{parts[0]}.{minor + more}" for more in range(1, kind.later_minors + 1))
    for text in (match[1], fitting, *later):
        wanted = wanted_from(text, source)
        tool = toolbox.choose(kind.program, wanted.range) if wanted else None
        if tool is not None:
            return tool
    return find_tool(toolbox, kind.program, wanted_from(fitting, source)).tool


# Of files that say what is installed and how, rather than what the app does.
_ENDINGS = word_set(
    ".json .jsonc .json5 .lock .lockb .toml .txt .yaml .yml .cfg .ini .mod .sum .work .gemspec "
    ".prisma .patch .in"
)
_NAMES = frozenset(("Gemfile", "Pipfile", "setup.py", "rust-toolchain"))
_FILES_LIMIT = 100  # of a stage


@dataclass(kw_only=True)
class Install:
    """A stage's install: the first lines of its script, up to a RUN."""

    lines: int = 0
    shell: tuple[str, ...] = ()  # among them, what the rest of the script needs again
    has_run: bool = False
    inputs: set[str] = field(default_factory=set)  # files of the upload that the lines read
    seen: set[str] = field(default_factory=set)  # that the script has read so far
    is_open: bool = True  # nothing else was read so far

    def reads(self, entries: list[str], upload: Upload) -> None:
        """Ends the install before lines that read other files than lists of packages."""
        if not self.is_open:
            return
        files = (name for entry in entries for name in upload.files(entry))
        found = list(islice(files, _FILES_LIMIT + 1 - len(self.seen)))
        self.seen.update(found)
        self.is_open = (
            len(self.seen) <= _FILES_LIMIT
            and all(map(_is_list, found))
            and all(map(upload.is_whole, entries))
        )

    def follows(self, other: "Install") -> None:
        """Ends the install before lines that read what another stage's build makes."""
        self.is_open = self.is_open and other.is_open

    def ran(self, script: list[str], shell: list[str]) -> None:
        """Takes the lines so far for the install's."""
        if self.is_open:
            self.lines, self.shell, self.inputs = len(script), tuple(shell), {*self.seen}
            self.has_run = True

    def ends(self, script: list[str]) -> None:
        """Takes all lines of a stage that read nothing else: others may need the whole of it."""
        if self.is_open:
            self.lines, self.inputs = len(script), {*self.seen}


def _is_list(name: str) -> bool:
    base = posixpath.basename(name)
    return base.startswith(".") or base in _NAMES or posixpath.splitext(base)[1] in _ENDINGS


_ENTRIES_LIMIT = 500  # files and directories that a pattern of COPY may match
_ARCHIVE = re.compile(r"\.(?:tar|tgz|tar\.\w{2,4}|tbz2?|txz)\Z")
_URL = re.compile(r"(?:https?|git|ssh)://|git@")
# Images that bring one program, which is here already.
_UV = re.compile(r"(?:ghcr\.io/)?astral-sh/uv(?:[:@].*)?\Z")
_PYTHONS_OWN = ("/usr/local", "/root/.local", "/usr/lib/python3")
# What it says of the image is not so here.
_NOT_EXPORTED = ("PATH", "PNPM_HOME", "COREPACK_HOME", "UV_SYSTEM_PYTHON")
_NOTHING = frozenset(("true", "&&", ";"))
_ONE_HEREDOC = re.compile(r"(?:(?:/bin/)?(?:ba)?sh[ \t]+)?<<-?[ \t]*['\"]?\w+['\"]?\Z")
_FLAGS = {
    "COPY": {"from", "chown", "chmod", "link"},
    "ADD": {"chown", "chmod", "link"},
    "RUN": {"mount", "network"},
}


@dataclass(kw_only=True)
class Stage:
    """One stage while its instructions are followed, in their order."""

    number: int
    name: str
    image: Image
    layout: Layout
    scope: Scope
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)  # paths as in the image
    defaults: dict[str, str] = field(default_factory=dict)  # of arguments before the first FROM
    arguments: dict[str, str] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    shell: list[str] = field(default_factory=list)  # the script's lines that set up its shell
    install: Install = field(default_factory=Install)
    entrypoint: Instruction | None = None
    command: Instruction | None = None
    ports: list[int] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)  # of nginx: image path, upload's

    @property
    def is_last(self) -> bool:
        """Whether it is what runs: its home is the app's directory."""
        return any(root == APP for _, root in self.layout.prefixes)

    @property
    def variables(self) -> dict[str, str]:
        """What $NAME stands for in an instruction: arguments, and the environment before them."""
        return {"PATH": ":".join(SYSTEM_PATH), **self.arguments, **self.environment}

    @property
    def path(self) -> list[str]:
        """The directories of the sandbox that the stage adds to the PATH."""
        own = [p for p in self.environment.get("PATH", "").split(":") if p not in SYSTEM_PATH]
        found = [self.layout.real(posixpath.normpath(p)) for p in own if p.startswith("/")]
        return [*found, *([self.layout.real("/usr/local/bin")] if self.scope.has_globals else [])]

    def set(self, *lines: str) -> None:
        """Adds lines that set variables and the directory of those that follow."""
        self.script += lines
        self.shell += lines

    def add_path(self) -> None:
        """Lets the lines that follow find the stage's programs."""
        if self.path:
            self.set(f'export PATH={quote(":".join(self.path))}:"$PATH"')

    @property
    def exported(self) -> dict[str, str]:
        """The stage's environment with the sandbox's paths, without PATH."""
        known = frozenset(self.scope.known)
        own = {n: self.layout.rewritten(v, known)[0] for n, v in self.environment.items()}
        for name in _NOT_EXPORTED:
            own.pop(name, None)
        image = {name: self.layout.real(path) for name, path in self.image.environment}
        return {**image, **own, **environment_of(self.scope, self.image.tool)}


def follow(stage: Stage, instruction: Instruction, before: list[Stage], upload: Upload) -> None:
    """Does one instruction after FROM. Raises RuntimeUnsupported, naming its line."""
    allowed = _FLAGS.get(instruction.name, set())
    odd = next((name for name, _ in instruction.flags if name not in allowed), None)
    if odd is not None:
        raise instruction.refused(f"--{odd} is not planned here")
    match instruction.name:
        case "ARG":
            _argument(stage, instruction)
        case "ENV":
            _environment(stage, instruction)
        case "WORKDIR":
            _workdir(stage, instruction)
        case "COPY" | "ADD":
            _copy(stage, instruction, before, upload)
        case "RUN":
            _run(stage, instruction, upload)
        case "EXPOSE":
            _expose(stage, instruction)
        case "VOLUME":
            stage.volumes += instruction.words or split(instruction.text, stage.variables)
        case "CMD":
            stage.command = None if instruction.words == () else instruction
        case "ENTRYPOINT":
            stage.entrypoint = None if instruction.words == () else instruction
            stage.command = None


def _argument(stage: Stage, instruction: Instruction) -> None:
    for word in split(instruction.text, stage.variables):
        name, equals, value = word.partition("=")
        if not re.fullmatch(r"[A-Za-z_]\w{0,127}", name):
            raise instruction.refused("it names no variable")
        if not equals and name in stage.defaults:
            equals, value = "=", stage.defaults[name]
        if equals:
            stage.arguments[name] = value
            stage.set(f'[ "${{{name}+set}}" ] || export {name}={quote(value)}')


def _environment(stage: Stage, instruction: Instruction) -> None:
    first, _, rest = instruction.text.partition(" ")
    pairs = [word.partition("=") for word in split(instruction.text, stage.variables)]
    if "=" not in first:
        pairs = [(first, "=", expand(rest.strip(), stage.variables))]
    for name, equals, value in pairs:
        if not equals or not re.fullmatch(r"[A-Za-z_]\w{0,127}", name) or "\0" in value:
            raise instruction.refused("it sets no variable")
        stage.environment[name] = value
        if name == "VIRTUAL_ENV":
            stage.scope.packages_at.add(value)
    if any(name == "PATH" for name, _, _ in pairs):
        stage.set(f'export PATH={quote(":".join(stage.path))}:"$PATH"')
    if len(stage.environment) > ENV_ENTRIES_LIMIT:
        raise instruction.refused(f"there are more than {ENV_ENTRIES_LIMIT} variables")
    values = stage.exported
    stage.set(*(f"export {name}={quote(values[name])}" for name, _, _ in pairs if name in values))


def _workdir(stage: Stage, instruction: Instruction) -> None:
    path = in_image(stage.workdir, expand(instruction.text, stage.variables).strip("\"'"))
    if not path:
        raise instruction.refused("the directory's name has characters that aren't followed")
    stage.workdir = path
    if path != "/":
        stage.scope.known.add(path)
    real = quote(stage.layout.real(path))
    stage.set(f"mkdir -p {real} && cd {real}")


def _expose(stage: Stage, instruction: Instruction) -> None:
    for word in split(instruction.text, stage.variables):
        number = word.partition("/")[0].partition("-")[0]
        if word.endswith("/udp"):
            continue
        if not re.fullmatch(r"[0-9]{1,5}", number) or not 0 < int(number) < 65_536:
            raise instruction.refused("it is no port")
        stage.ports.append(int(number))


def _run(stage: Stage, instruction: Instruction, upload: Upload) -> None:
    for mount in (value for name, value in instruction.flags if name == "mount"):
        _mount(stage, instruction, mount, upload)
    text = instruction.text if instruction.words is None else join(instruction.words)
    if instruction.heredocs:
        text = _script(instruction)
    line = translated(instruction, text, stage.scope)
    if _NOTHING.issuperset(line.split()):
        return
    stage.script.append(f"echo {quote(f'line {instruction.line}: RUN {instruction.text[:200]}')}")
    if stage.scope.has_globals:
        stage.add_path()
    if stage.scope.parents:
        stage.script.append(f"mkdir -p {join(sorted(stage.scope.parents))}")
        stage.scope.parents.clear()
    stage.script.append(f"sh -c {quote(line)}")
    stage.install.ran(stage.script, stage.shell)


def _script(instruction: Instruction) -> str:
    """Returns the lines of a RUN that is one heredoc, without comments."""
    if not _ONE_HEREDOC.match(instruction.text) or len(instruction.heredocs) > 1:
        raise instruction.refused("of heredocs, only the lines of one RUN are planned")
    lines = (line.strip() for line in instruction.heredocs[0].replace("\\\n", " ").split("\n"))
    return "\n".join(line for line in lines if line and not line.startswith("#"))


def _mount(stage: Stage, instruction: Instruction, mount: str, upload: Upload) -> None:
    """Lets a RUN see a file of the upload; a cache is left out, as there are others."""
    options = dict(part.partition("=")[::2] for part in mount.split(","))
    kind = options.get("type", "bind")
    if kind in ("cache", "tmpfs"):
        return
    source = options.get("source", options.get("src", ""))
    target = options.get("target", options.get("dst", options.get("destination", "")))
    if kind != "bind" or "from" in options or not target:
        raise instruction.refused(f"a mount of type {kind[:20]} is not planned here")
    found = _uploaded(stage, instruction, [source], upload)
    _put(stage, instruction, found, target, is_directory=False)


def _copy(stage: Stage, instruction: Instruction, before: list[Stage], upload: Upload) -> None:
    words = list(instruction.words or split(instruction.text, stage.variables))
    if instruction.heredocs:
        _write(stage, instruction, words)
        return
    if len(words) < 2:
        raise instruction.refused("it needs a source and a destination")
    *sources, target = words
    origin = expand(instruction.flag("from"), stage.variables)
    if origin:
        found = _from_stage(stage, instruction, origin, sources, before)
    else:
        if instruction.name == "ADD" and any(_ARCHIVE.search(s) or _URL.match(s) for s in sources):
            raise instruction.refused("ADD of archives and addresses is not planned: use COPY")
        found = _uploaded(stage, instruction, sources, upload)
        path = in_image(stage.workdir, target)
        if stage.scope.is_configuration(path):
            base = posixpath.basename(sources[0])
            is_inside = target.endswith("/") or stage.image.has_directory(path)
            path = posixpath.join(path, base) if is_inside else path
            stage.configuration[path] = posixpath.normpath(sources[0].strip("/"))
            return
    mode = instruction.flag("chmod")
    is_there = stage.image.has_directory(in_image(stage.workdir, target))
    is_directory = len(sources) > 1 or target.endswith("/") or target == "." or is_there
    _put(stage, instruction, found, target, is_directory=is_directory, mode=mode)


def _write(stage: Stage, instruction: Instruction, words: list[str]) -> None:
    """Adds the lines that write the one heredoc of a COPY into its file."""
    path = in_image(stage.workdir, words[-1])
    is_one = len(instruction.heredocs) == 1 and len(words) == 2 and words[0].startswith("<<")
    if not is_one or not path or words[-1].endswith("/") or stage.scope.is_configuration(path):
        raise instruction.refused("of heredocs, only the lines of one RUN or file are planned")
    text = instruction.heredocs[0]
    is_quoted = re.match(r"<<-?[ \t]*['\"]", instruction.text) is not None
    text = text if is_quoted else expand(text, stage.variables)
    stage.scope.known.add(path)
    real = quote(stage.layout.real(path))
    stage.script.append(f'mkdir -p "$(dirname {real})" && printf %s {quote(text)} > {real}')


def _from_stage(
    stage: Stage, instruction: Instruction, origin: str, sources: list[str], before: list[Stage]
) -> list[str]:
    """Returns the sandbox's paths of another stage's files, without those that are here anyway."""
    if _UV.match(origin):
        stage.scope.programs.add("uv")
        return []
    if is_composer(origin):
        stage.scope.programs.add("composer")
        return []
    other = next((s for s in before if origin.lower() in (s.name, str(s.number))), None)
    if other is None:
        raise instruction.refused("files of other images are not to be had here, only of stages")
    stage.install.follows(other.install)
    places = {*other.scope.packages_at, *_PYTHONS_OWN} if other.scope.is_python else set()
    found = []
    for source in sources:
        path = in_image("/", source.replace("*", ""))
        if not path:
            raise instruction.refused("the path has characters that aren't followed")
        if any(is_below(path, place) for place in places):
            stage.scope.packages_at.add(path)
            continue  # packages are in the one virtual environment of all stages
        real = other.layout.real(in_image("/", source.replace("*", "@STAR@")))
        found.append("*".join(quote(part) if part else "" for part in real.split("@STAR@")))
    return found


def _uploaded(
    stage: Stage, instruction: Instruction, sources: list[str], upload: Upload
) -> list[str]:
    """Returns the paths of the upload's files. Raises RuntimeUnsupported if there are none."""
    found: list[str] = []
    for source in sources:
        if ".." in source.split("/"):
            raise instruction.refused("it goes outside of the upload")
        entries = upload.entries(source)
        if not entries and not any(sign in source for sign in "*?["):
            raise instruction.refused(f"{source[:100]} is not in the upload, or ignored")
        stage.install.reads(entries, upload)
        found += [quote(f"{CONTEXT}/{entry}" if entry else CONTEXT) for entry in entries]
    if len(found) > _ENTRIES_LIMIT:
        raise instruction.refused(f"it names more than {_ENTRIES_LIMIT} files")
    return found


def _put(
    stage: Stage,
    instruction: Instruction,
    found: list[str],
    target: str,
    *,
    is_directory: bool,
    mode: str = "",
) -> None:
    """Adds the line that copies files into the stage."""
    path = in_image(stage.workdir, target)
    if not path:
        raise instruction.refused("the path has characters that aren't followed")
    if path == "/" and stage.is_last and CONTEXT in found:
        raise instruction.refused("set a WORKDIR before COPY")
    if not found:
        return
    if path != "/":
        stage.scope.known.add(path)
    if is_directory or path == "/":
        names = (posixpath.basename(one).strip("'") for one in found)
        stage.scope.known.update(posixpath.join(path, name) for name in names)
    real = stage.layout.real(path) + ("/" if is_directory else "")
    stage.script.append(f"put {quote(real)} {' '.join(found)}")
    if mode:
        if not re.fullmatch(r"[0-7]{3,4}|[ugoa,+=rwxX-]{2,40}", mode):
            raise instruction.refused("--chmod has no mode")
        stage.script.append(f"chmod -R {mode} {quote(real)}")
