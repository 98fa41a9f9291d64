"""Java programs: a jar or classes that Maven or Gradle make, plain sources, or a ready jar."""

import re
from shlex import quote
from typing import NamedTuple

from moorage.errors import PlanNotFound, RuntimeUnsupported
from moorage.planning.explicit import Asked, Found, Wanted, find_tool, wanted_from
from moorage.planning.languages.portless import portless
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Tool, Toolbox

LOOKED_FOR = (
    "pom.xml or build.gradle",
    "a .java file with a main method, also below src/; the only .jar",
)
_LIMIT = 262_144  # bytes of a build file or a source
_FILES_LIMIT = 200  # sources read
_CLASSES = ".bin"
_RELEASE = re.compile(
    r"<(?:maven\.compiler\.(?:release|target|source)|java\.version|release)>\s*(?:1\.)?(\d{1,2})"
    r"|(?:JavaLanguageVersion\.of|jvmToolchain)\((\d{1,2})\)"
    r"|JavaVersion\.VERSION_(?:1_)?(\d{1,2})"
)
_SOURCE = re.compile(r"(?:src/(?:\w+/){0,12})?(\w+)\.java\Z")
_MAIN = re.compile(rb"\bstatic\s+(?:final\s+)?void\s+main\s*\(")
_PACKAGE = re.compile(rb"^[ \t]*package[ \t]+([\w.]{1,200})[ \t]*;", re.MULTILINE)
# Plugins that make one jar which runs by itself.
_WHOLE = re.compile(
    r"shadowJar|\.shadow['\"]|spring-boot|maven-shade|maven-assembly|springframework\.boot|micronaut-maven"
)
_QUARKUS = re.compile(r"io\.quarkus")
_APPLICATION = re.compile(
    r"['\"](?:[\w.]{1,60}\.)?application['\"]|^[ \t]{0,9}application[ \t]*(?:\{|$)", re.MULTILINE
)
_MAIN_CLASS = re.compile(
    r"<(?:mainClass|exec\.mainClass|main\.class|start-class)>\s*([\w.]{1,200})"
)
_SOURCES = (".html", ".py", ".js", ".ts", ".php", ".rb", ".go")
_PART = re.compile(r"-(?:sources|javadoc|plain|tests)\.jar\Z")
_QUARKUS_HOST = (("QUARKUS_HTTP_HOST", "0.0.0.0"),)  # noqa: S104 (in the app's own network)
# In apps of other languages, a Java file is only a part.
_OTHERS = ("package.json", "requirements.txt", "pyproject.toml", "Gemfile", "index.php")
_LIKELY = ("Main", "App", "Application", "Server")


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A project of Maven or Gradle, or a class to run; None without.

    Raises RuntimeUnsupported, and PlanNotFound for what listens on no port.
    """
    file = folder.first("pom.xml", "build.gradle", "build.gradle.kts")
    if file is None:
        return _plain(folder, asked, toolbox)
    refusal = portless(folder, "java", file) if asked.seeks_server else ""
    if refusal:
        raise PlanNotFound(refusal)
    java = _java(asked.version_of("java") or _wanted(folder, file), toolbox)
    text = folder.data(file, limit=_LIMIT).decode(errors="replace")
    build, start = _by_maven(folder, text) if file == "pom.xml" else _by_gradle(text)
    if "io.dropwizard" in text:
        settings = folder.first("config.yml", "config.yaml", "configuration.yml", "server.yml")
        start += f" server {settings or ''}".rstrip()
    command, tools = _builder(folder, file, toolbox)
    by = tools[0] if tools else command
    because = (f"{file} is there: built by {by}, run by {java.tool}", java.because)
    hosts, build = _QUARKUS_HOST if _QUARKUS.search(text) else (), f"{command} {build}"
    own = Recipe(Stack.JAVA, None, build, start, because, hosts, tools=(java.tool, *tools))
    return asked.over(own)


def _builder(folder: Folder, file: str, toolbox: Toolbox) -> tuple[str, tuple[Tool, ...]]:
    """Returns the beginning of a build's command, and the tool; none where a wrapper gets it.

    Gradle's versions differ so much that its wrapper goes before the machine's own.
    """
    if file == "pom.xml":
        options, has_wrapper = "-B -q -DskipTests clean", folder.has_directory(".mvn/wrapper")
        tool, program, wrapper = "maven", "mvn", "mvnw"
    else:
        options, has_wrapper = "--no-daemon -q", folder.has("gradle/wrapper/gradle-wrapper.jar")
        tool, program, wrapper = "gradle", "gradle", "gradlew"
    if has_wrapper and folder.has(wrapper) and (tool == "gradle" or not toolbox.has(tool)):
        return f"sh ./{wrapper} {options}", ()
    return f"{program} {options}", (find_tool(toolbox, tool, None, file=file).tool,)


def _by_maven(folder: Folder, text: str) -> tuple[str, str]:
    """Returns the goals, and the start of what they make.

    A jar without a plugin for it lacks its dependencies.
    """
    if _QUARKUS.search(text):
        return "package", _start("target/quarkus-app/quarkus-run.jar")
    if "<modules>" in text:
        return "package", _start("target/*.jar */target/*.jar")
    if "<packaging>war" in text and not _WHOLE.search(text):
        raise RuntimeUnsupported("pom.xml", _WAR)
    named = _MAIN_CLASS.search(text)
    program = None if named else _program(folder)
    name = named[1] if named else program.name if program else ""
    if _WHOLE.search(text) or not name:
        return "package", _start("target/*.war" if "<packaging>war" in text else "target/*.jar")
    goals = "package dependency:copy-dependencies -DincludeScope=runtime"
    return goals, f"java $JAVA_OPTS -cp 'target/classes:target/dependency/*' {name}"


_WAR = (
    "it packs a war for a servlet container, which is not here: pack a jar that runs by itself, as "
    "Spring Boot's plugin does"
)


def _by_gradle(text: str) -> tuple[str, str]:
    """Returns the task, and the start of what it makes."""
    if _QUARKUS.search(text):
        return "build -x test", _start("build/quarkus-app/quarkus-run.jar")
    if _APPLICATION.search(text) and not _WHOLE.search(text):
        return "installDist", 'exec sh "$(ls build/install/*/bin/* | grep -v .bat | head -n 1)"'
    return "build -x test", _start("build/libs/*.jar")


class _Program(NamedTuple):
    """A class with a main method, and the directory that its package lies in."""

    file: str
    root: str
    name: str


def _plain(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Plans sources without a build file: javac compiles the class to run and what it needs."""
    if folder.first(*_OTHERS):
        return None
    program = _program(folder)
    if program is None:
        return _ready(folder, asked, toolbox)
    refusal = portless(folder, "java", "") if asked.seeks_server else ""
    if refusal and not folder.has_directory("lib"):
        raise PlanNotFound(refusal)
    java = _java(asked.version_of("java"), toolbox)
    root = quote(program.root or ".")
    libraries = ":'lib/*'" if folder.has_directory("lib") else ""
    build = (
        f"javac -encoding UTF-8 -d {_CLASSES} -cp {root}{libraries} "
        f"-sourcepath {root} {quote(program.file)}"
    )
    found = f"{program.file} has a main method and there is no build file"
    because = (f"{found}: built by javac, run by {java.tool}", java.because)
    start = f"java $JAVA_OPTS -cp {_CLASSES}:{root}{libraries} {program.name}"
    return asked.over(Recipe(Stack.JAVA, None, build, start, because, tools=(java.tool,)))


def _ready(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """Plans the only jar beside nothing else that starts."""
    files = list(folder.files())
    jars = [name for name in files if name.endswith(".jar") and not _PART.search(name)]
    if len(jars) != 1 or any(name.endswith(_SOURCES) for name in files):
        return None
    found = find_tool(toolbox, "java", asked.version_of("java"), file=jars[0])
    because = (f"{jars[0]} is the only jar: run by {found.tool}", found.because)
    start = _start(quote(jars[0]))
    return asked.over(Recipe(Stack.JAVA, start=start, because=because, tools=(found.tool,)))


def _program(folder: Folder) -> _Program | None:
    """Returns the first class with a main method: likely names first, then nearest to the root."""
    names = folder.ending(".java")
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

    Spring Boot takes its port from `server.port`, Quarkus from its own; other programs read PORT.
    """
    prefix = "quarkus.http" if "quarkus" in jars else "server"
    file = f'"$(ls -S {jars} | head -n 1)"' if "*" in jars else jars
    return f'exec java $JAVA_OPTS -D{prefix}.port="$PORT" -jar {file}'


def _wanted(folder: Folder, file: str) -> Wanted | None:
    match = _RELEASE.search(folder.data(file, limit=_LIMIT).decode(errors="replace"))
    if match is None:
        return None
    release = match[1] or match[2] or match[3]
    return wanted_from(f">={release}", file)
