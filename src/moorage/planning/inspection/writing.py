"""Code that writes files, by the names of functions and of libraries that keep data in files."""

import re
from pathlib import PurePosixPath

_MANIFESTS = ("package.json", "requirements.txt", "pyproject.toml", "Gemfile", "Cargo.toml")
_CODE = (
    *(".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx", ".py", ".php", ".go", ".rs"),
    *(".rb", ".java", ".kt", ".prisma"),
)
_ASIDE = re.compile(
    r"(^|/)(scripts?|tests?|__tests__|specs?|e2e|tools?|bin|docs?|examples?|dist|build|\.next)/"
    r"|\.(test|spec|config)\.|(^|/)(gulpfile|setup|conftest)\."
)
"""What builds or tests an app, and does not run in it."""


def is_code(path: str) -> bool:
    """Returns whether the file may say that the app writes files."""
    pure = PurePosixPath(path)
    return (pure.suffix in _CODE and not _ASIDE.search(path)) or pure.name in _MANIFESTS


def names_volume(data: bytes) -> bool:
    """Returns whether code names the directory of a volume."""
    return b"DATA_DIR" in data or _DATA.search(data) is not None


_DATA = re.compile(rb"""["'`/=]/data(?=[/"'`?])""")


def writes(path: str, data: bytes) -> str | None:
    """Returns the library or function with which the file's code keeps something in files."""
    if b":memory:" not in data:
        library = next((name for name, spelled in _LIBRARIES if spelled in data), None)
        if library is not None:
            return library
    if PurePosixPath(path).name in _MANIFESTS or any(word in data for word in _TEMPORARY):
        return None
    call = next((name for name, spelled in _CALLS if spelled in data), None)
    if call is None and path.endswith((".py", ".rb")) and b"open(" in data and _MODE.search(data):
        call = "open("
    return call.strip(".(") if call else None


def _spelled(*names: str) -> tuple[tuple[str, bytes], ...]:
    """Returns names, each with the bytes that stand for it in a file."""
    return tuple((name, name.encode()) for name in names)


_LIBRARIES = _spelled(
    *("better-sqlite3", "node:sqlite", "bun:sqlite", "backends.sqlite3", "aiosqlite", "rusqlite"),
    *("jdbc:sqlite", "jdbc:h2:file", "sqlite3", "sqlite://", 'provider = "sqlite"'),
    *("lowdb", "nedb", "classic-level", "TinyDB", "node-persist", "duckdb"),
)
_CALLS = _spelled(
    *("writeFileSync(", "writeFile(", "createWriteStream(", "appendFileSync(", "appendFile("),
    *("Bun.write(", "Deno.writeTextFile(", "multer(", ".write_text(", ".write_bytes("),
    *("shelve.open(", "file_put_contents(", "move_uploaded_file(", "os.WriteFile(", "os.Create("),
    *("File::create(", "fs::write(", "File.write("),
)
_MODE = re.compile(rb""",\s{0,2}(?:mode=)?["'](?:w|a|x|r\+)b?\+?["']\s{0,2}[,)]""")
_TEMPORARY = (b"/tmp", b"tmpdir", b"tempfile", b"mkdtemp")
