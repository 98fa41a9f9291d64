"""Says why an upload has no plan: what is there, by name, and the one step that would help."""

from itertools import islice
from typing import NamedTuple

from moorage.errors import PlanNotFound
from moorage.planning import roots
from moorage.planning.explicit import Asked
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox

# Files that say what an upload is, where no stack knows it: names, and endings after `*`. A step
# of "" is the toolbox's: a Dockerfile, and a gateway that takes it.
_KNOWN = (
    ("Dockerfile", "", "Set settings.hasDockerfile: true to follow the Dockerfile."),
    ("*.csproj *.fsproj *.vbproj *.sln *.slnx global.json", ".NET", ""),
    ("mix.exs rebar.config", "Elixir or Erlang", ""),
    ("build.sbt", "Scala", ""),
    ("project.clj deps.edn shadow-cljs.edn", "Clojure", ""),
    ("Package.swift", "Swift", ""),
    ("pubspec.yaml", "Dart", ""),
    ("stack.yaml *.cabal", "Haskell", ""),
    ("shard.yml", "Crystal", ""),
    ("dune-project", "OCaml", ""),
    ("gleam.toml", "Gleam", ""),
    ("build.zig", "Zig", ""),
    ("cpanfile app.psgi *.psgi", "Perl", ""),
    ("Project.toml", "Julia", ""),
    ("app.R server.R ui.R DESCRIPTION", "R", ""),
    ("CMakeLists.txt meson.build *.c *.cc *.cpp", "C or C++", ""),
    ("*.nimble", "Nim", ""),
    ("hugo.toml hugo.yaml hugo.yml hugo.json", "Hugo", "Build the site, and send public/."),
    ("_config.yml", "Jekyll", "Add its Gemfile, or build the site and send _site/."),
    ("mkdocs.yml", "MkDocs", "Add a requirements.txt with mkdocs, or build it and send site/."),
    ("book.toml", "mdBook", "Build the book, and send book/."),
    ("pelicanconf.py", "Pelican", "Build the site, and send output/."),
    ("conf.py", "Sphinx", "Build the pages, and send _build/html/."),
    ("antora-playbook.yml", "Antora", "Build the site, and send build/site/."),
    ("wrangler.toml wrangler.json wrangler.jsonc", "a Cloudflare Worker", (
        "Add a package.json with a start script that listens on PORT."
    )),
    ("serverless.yml serverless.yaml template.yaml sam.yaml", "a function of another host", (
        "Add a server that listens on PORT, and what starts it."
    )),
    ("*.ipynb", "a notebook", "Send it as a .py file that listens on PORT."),
    ("*.tsx *.jsx *.vue *.svelte", "a page's sources", (
        "Add the package.json with its build script."
    )),
    ("*.ts *.mts", "TypeScript", "Add a package.json with a start script."),
    ("compose.yaml compose.yml docker-compose.yml docker-compose.yaml", "a compose file", (
        "Send the app that one of its services builds."
    )),
    ("Chart.yaml", "a Helm chart", "Send the app that it deploys."),
    ("*.tf", "Terraform", "Send the app that it deploys."),
    ("*.zip *.tar *.gz *.tgz", "an archive", "Send the files that are in it."),
)  # fmt: skip
_ROWS = {
    pattern: row for row, known in reversed([*enumerate(_KNOWN)]) for pattern in known[0].split()
}
_USUAL = (
    "Set settings.runCommand to the line that starts it, or add a package.json, requirements.txt "
    "or index.html."
)
_NAMES = 4  # in the sentence
_NAME_CHARACTERS = 24
_NAMES_READ = 5_000
_DEPTH = 3  # directories in one another


class _Known(NamedTuple):
    """A file that says what an upload is, what that is, and the step."""

    file: str = ""
    kind: str = ""
    step: str = ""


def not_found(
    folder: Folder,
    wanted: Asked,
    looked_for: tuple[str, ...],
    missing: str,
    toolbox: Toolbox,
) -> PlanNotFound:
    """Returns the refusal of files that no stack can start; `missing` is what one of them lacks."""
    where = f" in {folder.directory}" if folder.directory else ""
    if wanted.stack is not None:
        where += f" for settings.runtime {wanted.stack}"
    looked_for = (*looked_for, "a Procfile with a web line", "settings.runCommand")
    if missing:
        said = f"No way to start this upload was found{where}: {missing}."
        apps = roots.apps_below(folder)
        if apps and wanted.directory == "":
            said += f" {roots.several(apps)}."
        if folder.has("Dockerfile"):
            said += " Or set settings.hasDockerfile: true to follow the Dockerfile."
        return PlanNotFound(said, looked_for=looked_for)
    known = _known(folder)
    entries = [name for name in (known.file, *folder.files()) if name]
    entries += [f"{name}/" for name in folder.directories()]
    said = f"No app was found{where}: the upload has {_named([*dict.fromkeys(entries)])}."
    if known.kind:
        said += f" {_short(known.file)} is {_article(known.kind)}"
        said += "." if known.step else ", which this gateway does not run."
    if known.file.endswith("/Dockerfile"):
        said += f" Set settings.directoryPath to {_short(known.file.removesuffix('/Dockerfile'))}."
    step = known.step or (toolbox.otherwise if known.file else _USUAL)
    return PlanNotFound(f"{said} {step}", looked_for=looked_for)


def is_foreign(folder: Folder) -> bool:
    """Whether the upload is plainly of a language that no stack knows."""
    found = _known(folder)
    return bool(found.kind) and not found.step


def _known(folder: Folder) -> _Known:
    """Returns what a file says of the upload: one right inside goes before others."""
    for names in (folder.files(), islice(folder.names(), _NAMES_READ)):
        rows = [(row, name) for name in names if (row := _row(name)) is not None]
        if rows:
            row, name = min(rows)
            return _Known(name, *_KNOWN[row][1:])
    return _Known()


def _row(path: str) -> int | None:
    """Returns the number of the row that knows a file; None for hidden and other files."""
    name = path.rpartition("/")[2]
    if path.startswith(".") or "/." in path or path.count("/") > _DEPTH:
        return None
    return _ROWS.get(name, _ROWS.get(f"*.{name.rpartition('.')[2]}"))


def _article(kind: str) -> str:
    return kind if kind.startswith(("a ", "an ")) else f"{kind}'s" if "'s" not in kind else kind


def _named(entries: list[str]) -> str:
    """Returns the first names, and how many there are more."""
    if not entries:
        return "no files"
    shown = [_short(name) for name in entries[:_NAMES]]
    more = len(entries) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _short(name: str) -> str:
    return f"{name[: _NAME_CHARACTERS - 1]}…" if len(name) > _NAME_CHARACTERS else name
