"""Follows a Dockerfile's stages: what each sets, and the shell lines that make its files."""

import posixpath
import re
from dataclasses import dataclass, field
from shlex import join, quote

from moorage.planning.dockerfile.commands import Scope, environment_of, translated
from moorage.planning.dockerfile.images import Image, is_composer
from moorage.planning.dockerfile.install import Install
from moorage.planning.dockerfile.layout import APP, CONTEXT, SYSTEM_PATH, Layout, in_image, is_below
from moorage.planning.dockerfile.parser import Instruction, expand, split
from moorage.planning.dockerfile.upload import Upload
from moorage.planning.explicit import ENV_ENTRIES_LIMIT

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
