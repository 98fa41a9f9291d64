"""Rules about the source as a whole, which no other check knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from moorage.settings import Settings

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src/moorage"
GENERATED = PACKAGE / "storage/migrations"
ENTRIES = {"moorage.cli.main"}
"""What nothing imports because the outside starts it."""

MOST_MODULE_LINES = 420
MOST_FUNCTION_LINES = 60
MOST_USUAL_FUNCTION_LINES = 25
"""Nine functions of ten are no longer than this."""


def sources() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if not path.is_relative_to(GENERATED):
            yield path


SOURCES = {path: path.read_text() for path in sources()}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def functions() -> Iterator[tuple[str, int]]:
    """Each function's place and its length without docstring."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
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


def test_functions_are_short() -> None:
    assert {place: lines for place, lines in functions() if lines > MOST_FUNCTION_LINES} == {}
    lengths = sorted(lines for _, lines in functions())
    assert lengths[len(lengths) * 9 // 10] <= MOST_USUAL_FUNCTION_LINES


def imported_modules() -> set[str]:
    """Every dotted name that an import of ours may mean, or that is named in a lazy import."""
    found: set[str] = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
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


@pytest.mark.parametrize("field", [field.name for field in msgspec.structs.fields(Settings)])
def test_every_setting_is_read(field: str) -> None:
    reading = re.compile(rf"(?:settings|self)\.{field}\b")
    assert any(reading.search(text) for text in SOURCES.values())


def error_names() -> list[str]:
    tree = TREES[PACKAGE / "errors.py"]
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("name", error_names())
def test_every_error_is_used(name: str) -> None:
    users = [path for path, text in SOURCES.items() if re.search(rf"\b{name}\b", text)]
    assert len(users) > 1


def test_module_names_are_nouns_of_the_field() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
    assert [path for path in SOURCES if path.stem in vague or path.parent.name in vague] == []
