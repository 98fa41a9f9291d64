"""Java programs: one jar, built by Maven or Gradle."""

import re

from moorage.planning.explicit import Asked
from moorage.planning.folder import Folder
from moorage.planning.plan import Stack
from moorage.planning.recipe import Recipe
from moorage.planning.toolbox import Toolbox
from moorage.planning.wanted import Wanted, find_tool, wanted_from

LOOKED_FOR = ("pom.xml or build.gradle",)
_LIMIT = 262_144  # bytes of a build file
_RELEASE = re.compile(
    r"<(?:maven\.compiler\.(?:release|target|source)|java\.version|release)>\s*(?:1\.)?(\d{1,2})"
    r"|JavaLanguageVersion\.of\((\d{1,2})\)|JavaVersion\.VERSION_(?:1_)?(\d{1,2})"
)


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A project of Maven or Gradle; None without. Raises RuntimeUnsupported."""
    file = folder.first("pom.xml", "build.gradle", "build.gradle.kts")
    if file is None:
        return None
    java = find_tool(toolbox, "java", _wanted(folder, file, asked))
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
        toolchains=(*java.tool.toolchains.items(), *builder.tool.toolchains.items()),
    )


def _start(jars: str) -> str:
    """The jar that holds all: the largest, as the others are its sources or lack what it needs.

    Spring Boot takes its port from `server.port`; what listens by itself has PORT.
    """
    return f'exec java $JAVA_OPTS -Dserver.port="$PORT" -jar "$(ls -S {jars}/*.jar | head -n 1)"'


def _wanted(folder: Folder, file: str, asked: Asked) -> Wanted | None:
    if asked.program == "java" and asked.version is not None:
        return asked.version
    match = _RELEASE.search(folder.data(file, limit=_LIMIT).decode(errors="replace"))
    if match is None:
        return None
    release = match[1] or match[2] or match[3]
    return wanted_from(f">={release}", file)
