"""Plans an app from its Dockerfile: follows the stages that the last one needs.

The upload is moved aside, each stage makes its files in a directory of its own, and what the last
one has is left: its home (such as its WORKDIR) at /app, other paths below /app/.image.
"""

import posixpath
from shlex import join, quote
from typing import NamedTuple

from moorage.errors import InvalidField, RuntimeUnsupported
from moorage.planning.dockerfile.commands import Scope
from moorage.planning.dockerfile.layout import (
    APP,
    CONTEXT,
    VENV,
    WORK,
    Upload,
    in_image,
    is_below,
    kept_files,
    layout_of,
)
from moorage.planning.dockerfile.parser import (
    TEXT_LIMIT,
    Instruction,
    expand,
    instructions,
    refused,
    split,
)
from moorage.planning.dockerfile.stages import Stage, follow, image_of
from moorage.planning.dockerfile.starts import Start, start_of
from moorage.planning.explicit import Asked, find_tool
from moorage.planning.node.package_json import package_json
from moorage.planning.node.package_managers import Manager, manager_for, manager_named, npm_for
from moorage.planning.plan import Recipe, Settings, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Tool, Toolbox

_SCRIPT_LIMIT = 100_000  # bytes; the kernel takes 131,072 in one argument
_UPLOAD = f"{WORK}/upload"
_MADE = f"{WORK}/made"  # by the install, at /app
# As COPY does: of a directory its content. Files of stages are linked, as they take space twice.
_PUT = f"""\
put() {{
  to=$1; shift
  for it; do
    case $it in {CONTEXT}*) how=-a;; *) how=-al;; esac
    if [ -d "$it" ]; then
      mkdir -p "$to"; cp $how --remove-destination "$it/." "$to"
    else
      case $to in */) mkdir -p "$to";; *) mkdir -p "$(dirname "$to")";; esac
      cp $how --remove-destination "$it" "$to"
    fi
  done
}}"""
_FIRST_LINES = ["set -e", _PUT, f"cd {APP}"]


class Steps(NamedTuple):
    """A plan's commands, and the files that the install reads, from the upload's root."""

    install: str | None
    build: str
    install_inputs: tuple[str, ...]


def steps(stages: list[Stage], folder: Folder, upload: Upload) -> Steps:
    """Returns the scripts. Raises RuntimeUnsupported if they are too long."""
    root = (folder, *folder.parents())[-1]
    if root.has(".dockerfile") or root.has_directory(".dockerfile"):
        raise RuntimeUnsupported(".dockerfile", "is where a Dockerfile is built: rename it")
    directory = folder.directory
    installs = [stage for stage in stages if stage.install.has_run]
    ignored = [f"(cd {CONTEXT} && rm -rf -- {join(upload.ignored)})"] if upload.ignored else []
    last = [f"cd {APP} && rm -rf .dockerfile"]
    if not installs:
        whole = [_shell(stage.script) for stage in stages]
        begin = [*_aside(directory), *ignored, *_environment(stages)]
        return Steps(None, _script("build", *begin, *whole, *last), ())
    first = [_shell(s.script[: s.install.lines]) for s in stages if s.install.lines]
    rest = [_shell(lines) for stage in stages if (lines := _rest(stage))]
    inputs = sorted({name for stage in stages for name in stage.install.inputs})
    return Steps(
        _script("install", *_aside(directory), *_environment(stages), *first, *_back(directory)),
        _script("build", *_aside(directory, made=True), *ignored, *rest, *last),
        tuple(folder.path(name) for name in inputs or ["Dockerfile"]),
    )


def _shell(lines: list[str]) -> str:
    return "\n".join(("(", *lines, ")"))


def _rest(stage: Stage) -> list[str]:
    """Returns the lines after the install, in a shell that is set up as it was left."""
    lines = stage.script[stage.install.lines :]
    return [*stage.install.shell, *lines] if lines else []


def _environment(stages: list[Stage]) -> list[str]:
    """Returns the line that makes the virtual environment that all Python stages share."""
    python = next((s.image.tool for s in stages if s.scope.is_python), None)
    if python is None:
        return []
    version = f"{python.version.major}.{python.version.minor}"
    return [f"uv venv -q --clear --python python{version} {VENV}"]


def _aside(directory: str, *, made: bool = False) -> list[str]:
    """Returns the lines that move the upload aside, and back what the install made.

    A step that is begun again, as a disk was full, finds the upload there. Of a directory of the
    upload, only what is in it is what COPY sees.
    """
    place = _UPLOAD if directory else CONTEXT
    lines = [f"mkdir {place}", _moved(APP, place)]
    if directory:
        lines.append(f"mv {quote(f'{_UPLOAD}/{directory}')} {CONTEXT}")
    if made:
        lines.append(_moved(_MADE, APP))
    return [f"mkdir -p {WORK}", f"if [ ! -d {CONTEXT} ]; then", *lines, "fi"]


def _back(directory: str) -> list[str]:
    """Returns the lines that move the upload back, and aside what the install made."""
    lines = [f"cd {APP} && rm -rf {_MADE} && mkdir {_MADE}", _moved(APP, _MADE)]
    if directory:
        lines += [f"mv {CONTEXT} {quote(f'{_UPLOAD}/{directory}')}", f"mv {_UPLOAD} {CONTEXT}"]
    return [*lines, _moved(CONTEXT, APP), f"rmdir {CONTEXT}"]


def _moved(source: str, target: str) -> str:
    """Returns the line that moves all in a directory, except what belongs to the build."""
    found = f"find {source} -mindepth 1 -maxdepth 1 ! -path {WORK}"
    return f"{found} -exec mv -t {target} '{{}}' +"


def _script(name: str, *lines: str) -> str:
    script = "\n".join((f"# {name}, as the Dockerfile says", *_FIRST_LINES, *lines))
    if len(script.encode()) > _SCRIPT_LIMIT:
        raise RuntimeUnsupported("Dockerfile", "its commands are too long to be planned")
    return script


Environment = dict[str, str]
_GO = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false"}


def programs(
    stages: list[Stage], folder: Folder, toolbox: Toolbox
) -> tuple[tuple[Tool, ...], Environment]:
    """Returns the programs, and the environment that their installs need.

    Raises RuntimeUnsupported for what the machine lacks, or needs in two versions.
    """
    found: dict[str, Tool] = {}
    environment: Environment = {}
    for stage in stages:
        tool, stack = stage.image.tool, stage.image.stack
        if tool is not None and found.setdefault(tool.program, tool) != tool:
            raise RuntimeUnsupported(
                "Dockerfile", f"its stages need two versions: {found[tool.program]}, and {tool}"
            )
        if stack is Stack.GO:
            environment |= _GO
        if stack is Stack.NODE and tool is not None and tool.program == "node":
            found.setdefault("npm", npm_for(tool, toolbox))
            environment |= manager_named("npm", "", folder, toolbox).commands.environment
        for name, version in stage.scope.managers.items():
            manager = _manager(name, version, folder, toolbox)
            environment |= manager.commands.environment
            if manager.tool is not None:
                found[name] = manager.tool
        _check_present(stage, toolbox)
    return tuple(found.values()), environment


def _manager(name: str, version: str, folder: Folder, toolbox: Toolbox) -> Manager:
    """Returns pnpm or Yarn: the version that the Dockerfile names, else the one of the files."""
    manifest = package_json(folder)
    if not version and manifest is not None:
        chosen = manager_for(folder, manifest, toolbox)
        if chosen.name == name:
            return chosen
    return manager_named(name, version, folder, toolbox)


def _check_present(stage: Stage, toolbox: Toolbox) -> None:
    """Raises RuntimeUnsupported for a program that comes with no image and isn't here."""
    needed = sorted(stage.scope.programs & {"composer", "uv"})
    if stage.image.stack is Stack.STATIC:
        needed.append("caddy")
    if stage.image.stack is Stack.RUBY and any("bundle " in line for line in stage.script):
        needed.append("bundler")
    if stage.scope.is_python:
        needed.append("uv")
    for program in needed:
        find_tool(toolbox, program, None)


FILE = "Dockerfile"
_STAGES_LIMIT = 16


class Planned(NamedTuple):
    """A Dockerfile's recipe, and the port it exposes."""

    recipe: Recipe
    port: int


class _Part(NamedTuple):
    """A stage as it is written."""

    number: int
    origin: Instruction
    reference: str
    name: str
    instructions: list[Instruction]


def planned(folder: Folder, settings: Settings, asked: Asked, toolbox: Toolbox) -> Planned:
    """Returns what the Dockerfile of the folder says.

    Raises RuntimeUnsupported, naming the line, for what can't be followed here, and InvalidField
    for commands that contradict it.
    """
    if not folder.has(FILE):
        where = f" in {folder.directory}" if folder.directory else ""
        raise RuntimeUnsupported(
            "settings.hasDockerfile",
            f"there is no Dockerfile{where}; send hasDockerfile: false to plan from the files",
        )
    for name, command in (("installCommand", asked.install), ("buildCommand", asked.build)):
        if command:
            raise InvalidField(f"settings.{name}", "is not used beside hasDockerfile: true")
    kept, ignored = kept_files(folder)
    plan = _Plan(folder, settings, asked, toolbox, Upload(names=kept, ignored=ignored))
    return _planned(plan, plan.stages())


class _Plan(NamedTuple):
    """What one Dockerfile is planned from."""

    folder: Folder
    settings: Settings
    asked: Asked
    toolbox: Toolbox
    upload: Upload

    def stages(self) -> list[Stage]:
        """Returns the stages that the last one needs, followed to their ends; it is the last."""
        text = self.folder.text(FILE, limit=TEXT_LIMIT)
        defaults, parts = _parts(instructions(text))
        needed = _needed(parts)
        made: list[Stage] = []
        for part in (part for part in parts if part.number in needed):
            stage = self._begun(part, parts, made, defaults)
            for instruction in part.instructions:
                follow(stage, instruction, made, self.upload)
            stage.install.ends(stage.script)
            made.append(stage)
        return made

    def _begun(
        self, part: _Part, parts: list[_Part], before: list[Stage], defaults: dict[str, str]
    ) -> Stage:
        parent = next((s for s in reversed(before) if s.name == part.reference.lower()), None)
        image = parent.image if parent else image_of(part.origin, part.reference, self.toolbox)
        workdir = parent.workdir if parent else image.workdir
        environment = dict(parent.environment) if parent else {}
        variables = {**defaults, **environment}
        home = _home(part, workdir, variables, image.roots) if part is parts[-1] else None
        layout = layout_of(part.number, home=home, has_volume=bool(self.settings.volume))
        scope = Scope(
            layout=layout, programs=set(image.programs), known=set(),
            configuration=image.configuration, here=frozenset(self.toolbox.programs),
            checks=_checks(parts),
        )  # fmt: skip
        if home:
            scope.known.add(home)
        stage = Stage(
            number=part.number, name=part.name, image=image, layout=layout, scope=scope,
            workdir=workdir, environment=environment, defaults=defaults,
        )  # fmt: skip
        if workdir != "/":
            scope.known.add(workdir)
        if parent is not None:
            _inherit(stage, parent)
        real = quote(layout.real(workdir))
        stage.set(f"mkdir -p {real} && cd {real}")
        stage.set(*(f"export {n}={quote(v)}" for n, v in stage.exported.items()))
        stage.add_path()
        return stage


def _inherit(stage: Stage, parent: Stage) -> None:
    """Takes over what a stage before has set, and its files."""
    stage.entrypoint, stage.command = parent.entrypoint, parent.command
    stage.ports, stage.volumes = [*parent.ports], [*parent.volumes]
    stage.configuration = dict(parent.configuration)
    stage.scope.programs |= parent.scope.programs
    stage.scope.known |= parent.scope.known
    stage.scope.packages_at |= parent.scope.packages_at
    stage.scope.managers.update(parent.scope.managers)
    stage.scope.has_globals = parent.scope.has_globals
    stage.install.follows(parent.install)
    origin, image = parent.layout.real("/"), stage.layout.real("/")
    copy = "cp -al --remove-destination"
    stage.script.append(f"mkdir -p {origin} {image} && {copy} {origin}/. {image}")
    for prefix, root in stage.layout.prefixes:
        if root == APP:
            inside = quote(f"{image}{prefix}")
            stage.script.append(
                f"[ ! -d {inside} ] || {{ {copy} {inside}/. {APP}; rm -rf {inside}; }}"
            )


def _parts(found: list[Instruction]) -> tuple[dict[str, str], list[_Part]]:
    """Returns the arguments before the first FROM, and the stages."""
    defaults: dict[str, str] = {}
    parts: list[_Part] = []
    for instruction in found:
        if instruction.name == "FROM":
            parts.append(_part(instruction, len(parts), defaults))
        elif parts:
            parts[-1].instructions.append(instruction)
        elif instruction.name == "ARG":
            words = split(instruction.text, defaults)
            defaults.update(w.split("=", 1) for w in words if "=" in w)  # type: ignore[misc]
        else:
            raise instruction.refused("FROM must come first")
    if not parts:
        raise refused(1, FILE, "it has no FROM")
    if len(parts) > _STAGES_LIMIT:
        raise parts[-1].origin.refused(f"there are more than {_STAGES_LIMIT} stages")
    return defaults, parts


def _part(instruction: Instruction, number: int, defaults: dict[str, str]) -> _Part:
    words = split(instruction.text, defaults)
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].lower() != "as"):
        raise instruction.refused("it must be FROM image, or FROM image AS name")
    name = words[2].lower() if len(words) == 3 else ""
    return _Part(number, instruction, words[0], name, [])


def _checks(parts: list[_Part]) -> str:
    """Returns what the Dockerfile's health checks run."""
    return "\n".join(
        instruction.text
        for part in parts
        for instruction in part.instructions
        if instruction.name == "HEALTHCHECK"
    )


def _needed(parts: list[_Part]) -> set[int]:
    """Returns the numbers of the stages that the last one is made of."""
    needed: set[int] = set()
    waiting = [parts[-1]]
    while waiting:
        part = waiting.pop()
        if part.number in needed:
            continue
        needed.add(part.number)
        names = {part.reference.lower(), *(i.flag("from").lower() for i in part.instructions)}
        earlier = parts[: part.number]
        waiting += [one for one in earlier if (one.name and one.name in names)]
        waiting += [one for one in earlier if str(one.number) in names]
    return needed


_NOWHERE = "/.app"  # stands for the home of an image that has none, where /app is a file of it
# Directories of every image, which hold more than an app.
_SHARED = ("/", "/usr", "/usr/local", "/usr/share", "/opt", "/home", "/var", "/etc", "/bin")


def _home(part: _Part, workdir: str, variables: dict[str, str], roots: tuple[str, ...]) -> str:
    """Returns the image's directory that becomes /app: the one around the last WORKDIR."""
    variables, targets = dict(variables), [workdir]
    is_taken = False  # by a file, which may be the program itself
    for instruction in part.instructions:
        if instruction.name in ("ENV", "ARG"):
            pairs = [w.partition("=") for w in split(instruction.text, variables)]
            variables.update({name: value for name, equals, value in pairs if equals})
        elif instruction.name == "WORKDIR":
            workdir = in_image(workdir, expand(instruction.text, variables).strip("\"'"))
            targets.append(workdir)
        elif instruction.name in ("COPY", "ADD"):
            *sources, last = instruction.words or split(instruction.text, variables) or [""]
            target = in_image(workdir, last)
            is_taken = is_taken or last == APP
            if last.endswith("/") or sources in (["."], ["./"]) or target in roots:
                targets.append(target)  # it is a directory
    if any(i.name == "RUN" and "../" in i.text for i in part.instructions):
        targets.append(posixpath.dirname(targets[-1]))  # its files belong to the app's
    around = [t for t in targets if t and t not in _SHARED and not t.startswith("/etc/")]
    if workdir in _SHARED:
        return around[0] if around else _NOWHERE if is_taken else APP
    return min((t for t in around if is_below(workdir, t)), key=len, default=workdir)


def _planned(plan: _Plan, stages: list[Stage]) -> Planned:
    last = stages[-1]
    port = _port(last, plan.settings)
    start = start_of(last, plan.folder, given=plan.asked.run)
    tools, environment = programs(stages, plan.folder, plan.toolbox)
    made = steps(stages, plan.folder, plan.upload)
    return Planned(
        Recipe(
            _stack(stages),
            made.install,
            made.build,
            start.command,
            _because(stages, start, port),
            run_env=tuple((n, v) for n, v in sorted(last.exported.items()) if n != "PORT"),
            build_env=tuple(environment.items()),
            tools=tools,
            directory="",
            install_inputs=made.install_inputs,
        ),
        port,
    )


def _stack(stages: list[Stage]) -> Stack:
    """Returns the last stage's language; that of a stage before for an image without one."""
    found = (stage.image.stack for stage in reversed(stages))
    return next((stack for stack in found if stack is not None), Stack.CUSTOM)


def _port(last: Stage, settings: Settings) -> int:
    written = last.environment.get("PORT", "")
    said = int(written) if written.isascii() and written.isdigit() and len(written) < 6 else 0
    return next((p for p in (*last.ports, said) if 1 <= p < 65_536), settings.port)


def _because(stages: list[Stage], start: Start, port: int) -> tuple[str, ...]:
    """Returns what is done in place of what the Dockerfile says, in sentences."""
    said = ["settings.hasDockerfile is true: the Dockerfile's own steps are followed"]
    images = {s.image.reference: s.image.tool for s in stages if s.image.tool is not None}
    said += [f"in place of {reference}: {tool}" for reference, tool in images.items()]
    last = stages[-1]
    home = next((prefix for prefix, root in last.layout.prefixes if root == APP), APP)
    if home not in (APP, _NOWHERE):
        said.append(f"the image's {home} is {APP} here")
    if last.volumes:
        said.append(
            f"VOLUME {' '.join(last.volumes)[:100]} keeps nothing by itself: files that it "
            "writes are lost at the next deploy, unless they are in the /data of settings.volume"
        )
    if start.because:
        said.append(start.because)
    if last.ports and port not in last.ports and not last.image.server:
        said.append(f"it exposes {last.ports[0]}, and is told to listen on {port} by PORT")
    return tuple(said)
