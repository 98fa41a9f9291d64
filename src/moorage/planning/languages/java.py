"""Java programs: one jar, built by Maven or Gradle, or plain sources with a main method."""

import re
from shlex import quote
from typing import NamedTuple

from moorage.planning.explicit import Asked, Found, Wanted, find_tool, wanted_from
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Toolbox

LOOKED_FOR = ("pom.xml or build.gradle", "a .java file with a main method, also below src/")
_LIMIT = 262_144  # bytes of a build file or a source
_FILES_LIMIT = 200  # sources read
_CLASSES = ".bin"
_RELEASE = re.compile(
    r"<(?:maven\.compiler\.(?:release|target|source)|java\.version|release)>\s*(?:1\.)?(\d{1,2})"
    r"|JavaLanguageVersion\.of\((\d{1,2})\)|JavaVersion\.VERSION_(?:1_)?(\d{1,2})"
)
_SOURCE = re.compile(r"(?:src/(?:\w+/){0,12})?(\w+)\.java\Z")
_MAIN = re.compile(rb"\bstatic\s+(?:final\s+)?void\s+main\s*\(")
_PACKAGE = re.compile(rb"^[ \t]*package[ \t]+([\w.]{1,200})[ \t]*;", re.MULTILINE)
# In apps of other languages, a Java file is only a part.
_OTHERS = ("package.json", "requirements.txt", "pyproject.toml", "Gemfile", "index.php")
_LIKELY = ("Main", "App", "Application", "Server")


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A project of Maven or Gradle, or a class to run; None without. Raises RuntimeUnsupported."""
    file = folder.first("pom.xml", "build.gradle", "build.gradle.kts")
    if file is None:
        return _plain(folder, asked, toolbox)
    java = _java(_wanted(folder, file, asked), toolbox)
    if file == "pom.xml":
        tool, build, jars = "maven", "mvn -B -q -DskipTests clean package", "target"
    else:
        tool, build, jars = "gradle", "gradle --no-daemon -q build -x test", "build/libs"
    builder = find_tool(toolbox, tool, None)
    because = (f"{file} is there: built by {builder.tool}, run by {java.tool}", java.because)
    return Recipe(
        Stack.JAVA,
        asked.install,
        build if asked.build is None else asked.build,
        asked.run or _start(jars),
        tuple(sentence for sentence in because if sentence),
        tools=(java.tool, builder.tool),
    )


class _Program(NamedTuple):
    """A class with a main method, and the directory that its package lies in."""

    file: str
    root: str
    name: str


def _plain(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Plans sources without a build file: javac compiles the class to run and what it needs."""
    program = None if folder.first(*_OTHERS) else _program(folder)
    if program is None:
        return None
    java = _java(_asked_version(asked), toolbox)
    root = quote(program.root or ".")
    libraries = ":'lib/*'" if folder.has_directory("lib") else ""
    build = (
        f"javac -encoding UTF-8 -d {_CLASSES} -cp {root}{libraries} "
        f"-sourcepath {root} {quote(program.file)}"
    )
    found = f"{program.file} has a main method and there is no build file"
    because = (f"{found}: built by javac, run by {java.tool}", java.because)
    return Recipe(
        Stack.JAVA,
        asked.install,
        build if asked.build is None else asked.build,
        asked.run or f"java $JAVA_OPTS -cp {_CLASSES}:{root}{libraries} {program.name}",
        tuple(sentence for sentence in because if sentence),
        tools=(java.tool,),
    )


def _program(folder: Folder) -> _Program | None:
    """Returns the first class with a main method: likely names first, then nearest to the root."""
    names = (name for name in folder.names() if name.endswith(".java"))
    found = [(match, name) for name in names if (match := _SOURCE.match(name))]
    found.sort(key=lambda pair: (pair[0][1] not in _LIKELY, pair[1].count("/"), pair[1]))
    for match, file in found[:_FILES_LIMIT]:
        text = folder.data(file, limit=_LIMIT)
        package = _PACKAGE.search(text)
        name = f"{package[1].decode()}.{match[1]}" if package else match[1]
        path = f"{name.replace('.', '/')}.java"
        if _MAIN.search(text) and f"/{file}".endswith(f"/{path}"):
            return _Program(file, file[: -len(path)].rstrip("/"), name)
    return None


def _java(wanted: Wanted | None, toolbox: Toolbox) -> Found:
    """Returns the Java to use; the machine's own may lack a compiler."""
    found = find_tool(toolbox, "java", wanted)
    if found.tool.is_hosts:
        find_tool(toolbox, "javac", None)
    return found


def _start(jars: str) -> str:
    """Runs the largest jar: the others are its sources, or lack its dependencies.

    Spring Boot takes its port from `server.port`; other programs read PORT.
    """
    return f'exec java $JAVA_OPTS -Dserver.port="$PORT" -jar "$(ls -S {jars}/*.jar | head -n 1)"'


def _wanted(folder: Folder, file: str, asked: Asked) -> Wanted | None:
    asked_version = _asked_version(asked)
    if asked_version is not None:
        return asked_version
    match = _RELEASE.search(folder.data(file, limit=_LIMIT).decode(errors="replace"))
    if match is None:
        return None
    release = match[1] or match[2] or match[3]
    return wanted_from(f">={release}", file)


def _asked_version(asked: Asked) -> Wanted | None:
    return asked.version if asked.program == "java" else None
