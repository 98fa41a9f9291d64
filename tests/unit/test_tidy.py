"""Rules about the source as a whole, which no other check knows."""

import ast
import gc
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import msgspec

from moorage.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src/moorage"
GENERATED = PACKAGE / "storage/migrations"
ENTRIES = {"moorage.cli.main"}
"""What nothing imports because the outside starts or imports it."""

CALLED_BY_LIBRARIES = {
    "emit",
    "capture_signals",
    "main_loop",
    "advance_hour",
    *("connection_made", "connection_lost", "data_received", "send_400_response"),
    *("on_headers_complete", "on_body", "on_response_complete"),
    *("pause_writing", "resume_writing"),
}
CALLED_BY_TESTS = {"Chart", "sum_of_entries", "micro_usd", "pids"}
"""The ledger's invariant, money as tests write it, and which processes parse the gateway's
uploads."""

MOST_MODULE_LINES = 900
MOST_MODULES_OF_A_ROOM = 20
LEAST_LINES_FOR_ONE_IMPORTER = 40
MOST_FUNCTION_LINES = 60
MOST_USUAL_FUNCTION_LINES = 25
"""Nine functions of ten are no longer than this."""


def sources() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(GENERATED):
            yield path


SOURCES = {path: path.read_text() for path in sources()}
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@cache
def nodes_of(text: str) -> list[ast.AST]:
    """What a module consists of, the module first; read once, and only where a test asks for it."""
    gc.disable()  # it would go through all nodes so far again and again
    try:
        return list(ast.walk(ast.parse(text)))
    finally:
        gc.enable()


def module_of(text: str) -> ast.Module:
    (module, *_) = nodes_of(text)
    assert isinstance(module, ast.Module)
    return module


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    """Everything that our modules consist of."""
    for path, text in SOURCES.items():
        yield from ((path, node) for node in nodes_of(text))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions() -> Iterator[tuple[str, int]]:
    """Each function's place and its length without docstring."""
    for path, node in nodes():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) and node.body[1:] else node.body
            length = (node.end_lineno or 0) - body[0].lineno + 1
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno} {node.name}", length


def test_modules_are_short() -> None:
    long = {
        str(path.relative_to(REPOSITORY)): text.count("\n")
        for path, text in SOURCES.items()
        if text.count("\n") > MOST_MODULE_LINES
    }
    assert long == {}


def test_rooms_have_few_modules() -> None:
    rooms = Counter(path.parent for path in SOURCES if path.name != "__init__.py")
    assert {room for room, count in rooms.items() if count > MOST_MODULES_OF_A_ROOM} == set()


def importers() -> dict[str, set[str]]:
    """The modules of ours that import each, by its name."""
    found: dict[str, set[str]] = {module_name(path): set() for path in SOURCES}
    for path, node in nodes():
        if isinstance(node, ast.ImportFrom) and node.module in found:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found[inner if inner in found else node.module].add(module_name(path))
    return found


def test_a_small_module_has_more_than_one_importer() -> None:
    """Otherwise it is a part of the one that imports it, and a reader's jump to no purpose."""
    by_name = {module_name(path): path for path in SOURCES if path.name != "__init__.py"}
    small = {
        name
        for name, path in by_name.items()
        if SOURCES[path].count("\n") < LEAST_LINES_FOR_ONE_IMPORTER
    }
    lonely = {name for name, those in importers().items() if len(those) == 1}
    assert small & lonely == set()


def test_functions_are_short() -> None:
    found = list(functions())
    assert {place: lines for place, lines in found if lines > MOST_FUNCTION_LINES} == {}
    lengths = sorted(lines for _, lines in found)
    assert lengths[len(lengths) * 9 // 10] <= MOST_USUAL_FUNCTION_LINES


def imported_modules() -> set[str]:
    """Every dotted name that an import of ours may mean, or that is named in a lazy import."""
    found: set[str] = set()
    for _, node in nodes():
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"^moorage(?:\.\w+)+", node.value))
    return found


def test_every_module_is_imported_by_another() -> None:
    imported = imported_modules()
    lonely = {
        module_name(path)
        for path in SOURCES
        if path.name not in {"__init__.py", "__main__.py"} and module_name(path) not in imported
    }
    assert lonely - ENTRIES == set()


def test_every_setting_is_read() -> None:
    read = {
        name
        for text in SOURCES.values()
        for reading in (r"settings\.(\w+)", r"self\.(\w+)")
        for name in re.findall(reading, text)
    }
    assert {field.name for field in msgspec.structs.fields(Settings)} - read == set()


def test_every_error_is_used() -> None:
    errors = PACKAGE / "errors.py"
    words = {
        word
        for path, text in SOURCES.items()
        if path != errors
        for word in re.findall(r"\w+", text)
    }
    declared = {n.name for n in nodes_of(SOURCES[errors]) if isinstance(n, ast.ClassDef)}
    assert declared - words == set()


def test_module_names_are_nouns_of_the_field() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
    assert [path for path in SOURCES if path.stem in vague or path.parent.name in vague] == []


def used_names(text: str) -> Iterator[str]:
    """Every name that code reads, also in strings, which may hold a lazy import or a type."""
    told = {id(node.value) for node in nodes_of(text) if isinstance(node, ast.Expr)}  # docstrings
    for node in nodes_of(text):
        match node:
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.Constant(value=str()) if id(node) not in told:
                yield from re.findall(r"\w+", str(node.value))


def public_names() -> set[str]:
    """Every function, method and class that is not private."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = (node for _, node in nodes())
    return {node.name for node in found if isinstance(node, kinds) if node.name[0] != "_"}


def names_in_templates() -> Iterator[str]:
    """Every word of what templates of pages compute."""
    for path in (PACKAGE / "pages/rendering/templates").rglob("*.html"):
        for computed in re.findall(r"\{[{%].*?[}%]\}", path.read_text(), re.S):
            yield from re.findall(r"\w+", computed)


def test_every_public_name_is_used() -> None:
    used = {name for text in SOURCES.values() for name in used_names(text)}
    used.update(names_in_templates())
    assert public_names() - used - CALLED_BY_LIBRARIES - CALLED_BY_TESTS == set()


def test_every_module_lies_in_one_row() -> None:
    """The rows of the design, as `lint-imports` checks them; nothing escapes it."""
    (rows,) = (
        contract["layers"]
        for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
        if contract.get("id") == "rows"
    )
    listed = [name.strip() for row in rows for name in row.split(":")]
    strays = {
        name
        for name in map(module_name, SOURCES)
        if sum(name == item or name.startswith(f"{item}.") for item in listed) != 1
    }
    packages = {name for name in strays if any(item.startswith(f"{name}.") for item in listed)}
    assert strays - packages == set()


def test_only_commands_print() -> None:
    printing = {
        path
        for path, node in nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    }
    assert [path for path in printing if not path.is_relative_to(PACKAGE / "cli")] == []


PUBLIC_SERVERS = {
    PACKAGE / "events/delivery.py",
    PACKAGE / "routing/probe.py",  # is told whom to trust
    PACKAGE / "sdk/transport.py",
}


def test_whom_to_trust_is_said_in_one_place() -> None:
    """Else a door refuses on the newest Python an authority that another takes."""
    made = {path for path, text in SOURCES.items() if "create_default_context" in text}
    assert made == {PACKAGE / "trust.py"}
    sessions = [
        module_name(path)
        for path, node in nodes()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "aiohttp.ClientSession"
        if path not in PUBLIC_SERVERS and "moorage.trust" not in SOURCES[path]
    ]
    assert sessions == []


READ_BY_CLIENTS = ("api", "cli", "errors.py", "mcp", "pages", "planning", "routing", "sdk", "wire")
MESSAGES = (PACKAGE / "errors.py", PACKAGE / "cli", PACKAGE / "cli/operator")
HARD_WORDS = re.compile(
    r"\banew\b|\bwhoever\b|\bmend(s|ed)?\b|\bgoes on\b|\bmoored\b|\bleads? nowhere\b|"
    r"\blooked at by itself\b|\basked and used\b",
    re.IGNORECASE,
)


def test_what_clients_read_has_no_words_that_a_learner_must_look_up() -> None:
    """Docstrings are for ourselves, except those of errors and commands, which are messages."""
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path, text in SOURCES.items()
        if path.relative_to(PACKAGE).parts[0] in READ_BY_CLIENTS and HARD_WORDS.search(text)
        for node in nodes_of(text)
        if isinstance(node, ast.Constant)
        and HARD_WORDS.search(str(node.value))
        and (path in MESSAGES or path.parent in MESSAGES or not is_docstring(path, node))
    ]
    assert found == []


def test_documents_have_no_words_that_a_learner_must_look_up() -> None:
    pages = (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"))
    prose = {path: re.sub(r"`[^`]*`", "", path.read_text()) for path in pages}
    assert [str(path) for path, text in prose.items() if HARD_WORDS.search(text)] == []


def is_docstring(path: Path, constant: ast.Constant) -> bool:
    """Whether a text stands alone: it is a docstring, or describes a name."""
    return any(isinstance(n, ast.Expr) and n.value is constant for n in nodes_of(SOURCES[path]))


def repository_files() -> Iterator[Path]:
    """Every file that is, or will be, in the repository: what .gitignore does not name."""
    ignored = [line.strip("/") for line in (REPOSITORY / ".gitignore").read_text().splitlines()]
    ignored += [".git", ".import_linter_cache"]
    for directory, names, files in os.walk(REPOSITORY):
        names[:] = [name for name in names if not any(fnmatch(name, item) for item in ignored)]
        yield from (Path(directory, name) for name in files if name != ".git")  # of a worktree


@cache
def texts() -> dict[Path, str]:
    return {path: path.read_text(errors="replace") for path in repository_files()}


PUT_OFF = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "HA" + "CK")) + r"\b")
HOSTS = ("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org", "crates" + ".io")
PRIVATE_PATHS = re.compile(r"(?<![\w./}~>])/(?:work|workspace|root|Users|home/(?!app\b)\w+)/\w")


def places(pattern: re.Pattern[str], *, apart: tuple[str, ...] = ()) -> list[str]:
    """Where a pattern occurs, as `path:line`."""
    return [
        f"{path.relative_to(REPOSITORY)}:{text.count(chr(10), 0, match.start()) + 1}"
        for path, text in texts().items()
        if path.name not in apart
        for match in pattern.finditer(text)
    ]


def test_nothing_is_put_off_in_a_comment() -> None:
    assert places(re.compile(rf"\b(?:{PUT_OFF.pattern})"), apart=("package-lock.json",)) == []


def test_no_package_registry_is_named() -> None:
    """Packages come from wherever the user's own clients are told to look."""
    assert places(re.compile("|".join(map(re.escape, HOSTS)))) == []


def test_no_path_of_one_machine_is_named() -> None:
    assert places(PRIVATE_PATHS) == []


DEFINED = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)


def test_no_test_hides_another() -> None:
    """Two of one name in a module: the first would never run. Modules need names of their own."""
    tests = [path for path in texts() if path.name.startswith("test_") and path.suffix == ".py"]
    names = [
        (path.name, node.name)
        for path in tests
        if len(found := DEFINED.findall(texts()[path])) > len(set(found))  # some in scripts
        for node in module_of(texts()[path]).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    stems = Counter(path.stem for path in tests)
    assert [stem for stem, count in stems.items() if count > 1] == []


def of_tests() -> Iterator[tuple[Path, str]]:
    """The text of each module of the tests."""
    for path, text in texts().items():
        if path.suffix == ".py" and path.is_relative_to(REPOSITORY / "tests"):
            yield path, text


MAY_REACH = re.compile(
    r"(?<!\bself)(?<!\bcls)(?<!\bos)\._[a-z]|import\b.*\b_[a-z]|^ +_[a-z]\w*,$|[\"']_[a-z]",
    re.MULTILINE,
)
PRIVATE = re.compile(r"_(?!replace$|asdict$|fields$)[a-z]\w*")  # but of a named tuple


def test_scripts_in_strings_import_what_there_is() -> None:
    """No checker reads what a test has another process run."""
    there = {module_name(path) for path in PACKAGE.rglob("*.py")}
    named = {
        (path.name, name)
        for path, text in texts().items()
        if path.suffix in {".py", ".md"}
        for name in re.findall(r"^(?:from|import) (moorage[\w.]*)", text, re.MULTILINE)
    }
    assert {(where, name) for where, name in named if name not in there} == set()


def test_no_test_imports_from_another() -> None:
    """What two need lies in a module of its own."""
    importing = {
        path.name
        for path, text in of_tests()
        if re.search(r"^ *(?:from|import) test_", text, re.MULTILINE)
    }
    assert importing == set()


def private_names(text: str) -> Iterator[str]:
    """Every private name that is reached for: of another's object, or of a module of ours."""
    for node in nodes_of(text):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "os")):
                pass
            case ast.Attribute(attr=name):
                yield name
            case ast.ImportFrom(module=str(module), names=names) if module.startswith("moorage"):
                yield from (alias.name for alias in names)
            case (
                ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[_, ast.Constant(name), *_])
                | ast.Call(func=ast.Attribute(attr="setattr"), args=[_, ast.Constant(name), *_])
                | ast.Subscript(value=ast.Call(func=ast.Name(id="vars")), slice=ast.Constant(name))
            ):
                yield str(name)


def test_no_test_reaches_into_private_parts() -> None:
    """Tests use what others may use: how it is done inside may change without them."""
    reaching = {
        path.name
        for path, text in of_tests()
        if MAY_REACH.search(text)  # else there is nothing to parse
        for name in private_names(text)
        if PRIVATE.fullmatch(name)
    }
    assert reaching == set()


def is_private(module: str) -> bool:
    return any(part.startswith("_") and part != "__future__" for part in module.split("."))


def test_no_private_part_of_a_library_is_imported() -> None:
    private = [
        f"{module_name(path)}: {node.module}"
        for path, node in nodes()
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("moorage")
        if is_private(node.module or "") or any(is_private(alias.name) for alias in node.names)
    ]
    assert private == []
