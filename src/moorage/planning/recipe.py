"""What one stack found: commands, or a sentence that says what is missing."""

from typing import NamedTuple

from moorage.planning.plan import Stack
from moorage.planning.reading.shell import in_place
from moorage.planning.toolbox import Tool

_QUOTED = 100  # characters of a command repeated in a sentence
_ROOT = "/app"  # where builds happen and apps run


class Recipe(NamedTuple):
    """A stack's way to build and start an app; commands run in the app's directory.

    `start` is None when the files belong to this stack but nothing says how to start them; then
    `missing` says what was looked for.
    """

    stack: Stack
    install: str | None
    build: str | None
    start: str | None
    because: tuple[str, ...]
    run_env: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    build_env: tuple[tuple[str, str], ...] = ()
    tools: tuple[Tool, ...] = ()
    install_inputs: tuple[str, ...] = ()  # from the upload's root
    older_python: str = ""  # the next older one of the machine's, if any will do
    directory: str | None = None  # the app's, from the upload's root, if not the given folder


def beside(recipe: Recipe, page: Recipe, *, builds: bool) -> Recipe:
    """Returns the recipe with the install and the build of a page that its app serves.

    Packages are installed first: builds of pages call programs of the app. `builds` is false where
    the app's own build runs that of the page.
    """
    has = {tool.program for tool in recipe.tools}
    inputs: tuple[str, ...] = ()
    if recipe.install_inputs or not recipe.install:
        inputs = tuple(sorted({*recipe.install_inputs, *page.install_inputs}))
    return recipe._replace(
        install=_both(recipe.install, page.install),
        build=_both(page.build, recipe.build) if builds else recipe.build,
        because=(*recipe.because, *page.because),
        build_env=(*page.build_env, *recipe.build_env),
        tools=(*recipe.tools, *(tool for tool in page.tools if tool.program not in has)),
        install_inputs=inputs if page.install_inputs or not page.install else (),
    )


def _both(first: str | None, second: str | None) -> str | None:
    if first and second:
        return f"(\n{first}\n) && (\n{second}\n)"
    return first or second


def quoted(command: str) -> str:
    """Returns a command for a sentence: its first line, cut to a readable length."""
    line, newline, _ = command.partition("\n")
    return f"{line[:_QUOTED]} …" if newline or len(line) > _QUOTED else line


def with_path(command: str, *directories: str) -> str:
    """Returns the command with these directories of the app first on its PATH."""
    return f'PATH="{"".join(f"$PWD/{d}:" for d in directories)}$PATH"\n{in_place(command)}'


def in_app(path: str) -> str:
    """Returns the path of an uploaded file for programs that build and run."""
    return f"{_ROOT}/{path}".rstrip("/")
