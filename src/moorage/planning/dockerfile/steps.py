"""The shell scripts that make a Dockerfile's stages: install, if any lines are one, and build.

Both move the upload aside. The install moves it back, and aside what it made itself: so a layer is
what an install made beside the upload, as with any other stack.
"""

from shlex import join, quote
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.dockerfile.layout import APP, CONTEXT, VENV, WORK
from moorage.planning.dockerfile.stages import Stage
from moorage.planning.dockerfile.upload import Upload
from moorage.planning.reading.folder import Folder

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
    """Returns the line that moves all in a directory, but for what belongs to the build."""
    found = f"find {source} -mindepth 1 -maxdepth 1 ! -path {WORK}"
    return f"{found} -exec mv -t {target} '{{}}' +"


def _script(name: str, *lines: str) -> str:
    script = "\n".join((f"# {name}, as the Dockerfile says", *_FIRST_LINES, *lines))
    if len(script.encode()) > _SCRIPT_LIMIT:
        raise RuntimeUnsupported("Dockerfile", "its commands are too long to be planned")
    return script
