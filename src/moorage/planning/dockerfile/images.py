"""The images that a simple Dockerfile may start from, and the machine's programs for them."""

import re
from typing import NamedTuple

from moorage.planning.dockerfile.parser import Instruction
from moorage.planning.plan import Stack
from moorage.planning.toolbox import Tool, Toolbox
from moorage.planning.wanted import find_tool, wanted_from

# Docker Hub's own names, and registries that hold the same official images.
_HUB = (
    r"(?:(?:docker\.io|index\.docker\.io|registry-1\.docker\.io|registry\.hub\.docker\.com"
    r"|mirror\.gcr\.io|public\.ecr\.aws/docker)/)?(?:library/)?"
)
_REFERENCE = re.compile(
    rf"{_HUB}(?P<name>[a-z0-9][\w./-]{{0,199}}?)(?::(?P<tag>[\w.-]{{1,128}}))?"
    r"(?:@sha256:[0-9a-f]{64})?\Z"
)
_COMPOSER = re.compile(rf"{_HUB}composer(?:[:@].*)?\Z")
_NUMBER = re.compile(r"(?:^|-)v?(\d{1,4}(?:\.\d{1,4}){0,2})(?=-|\Z)")


class Image(NamedTuple):
    """A base image: its language, and what its own Dockerfile sets."""

    reference: str  # as it is written
    stack: Stack | None  # None for an image without a language
    tool: Tool | None
    programs: frozenset[str] = frozenset()  # that its commands may run
    workdir: str = "/"
    environment: tuple[tuple[str, str], ...] = ()  # values are paths in the image
    server: str = ""  # what it starts without a CMD: nginx, caddy, apache2-foreground
    configuration: str = ""  # the directory of its server's configuration
    roots: tuple[str, ...] = ()  # directories of its own, which hold an app or what it reads
    directories: tuple[str, ...] = ()  # of any system

    def has_directory(self, path: str) -> bool:
        """Whether the image has it, so that a file which is copied there is put inside."""
        return path in (*self.directories, *self.roots, self.workdir, self.configuration)


class _Kind(NamedTuple):
    stack: Stack
    program: str
    programs: tuple[str, ...]
    parts: int  # of the tag's version that must be the same
    is_newer_fine: bool = False  # a later version of the same major runs it as well
    later_minors: int = 0  # that will do, the nearest first
    workdir: str = "/"
    environment: tuple[tuple[str, str], ...] = ()
    server: str = ""
    configuration: str = ""
    roots: tuple[str, ...] = ()


_HOMES = "/home"
_UV, _UVS_PYTHON = "ghcr.io/astral-sh/uv", re.compile(r"(?:^|-)python(\d+\.\d+)")
_DIRECTORIES = (
    *("/bin", "/etc", "/home", "/lib", "/media", "/mnt", "/opt", "/root", "/run", "/sbin", "/srv"),
    *("/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/local/lib"),  # noqa: S108
    *("/usr/local/sbin", "/usr/local/share", "/usr/sbin", "/usr/share", "/usr/src", "/var"),
    *("/var/lib", "/var/log", "/var/tmp"),  # noqa: S108
)
_NGINX = _Kind(
    Stack.STATIC, "caddy", ("nginx",), 0, server="nginx", configuration="/etc/nginx",
    roots=("/usr/share/nginx/html", "/etc/nginx/conf.d", "/etc/nginx/templates"),
)  # fmt: skip
_APACHE_ROOTS = ("/var/www", "/var/www/html")
_KINDS = {
    "node": _Kind(Stack.NODE, "node", ("node", "npm", "npx", "corepack", "yarn"), 1),
    "oven/bun": _Kind(Stack.NODE, "bun", ("bun", "bunx"), 1, workdir=f"{_HOMES}/bun/app"),
    "denoland/deno": _Kind(
        Stack.DENO, "deno", ("deno",), 1, environment=(("DENO_DIR", "/deno-dir"),)
    ),
    "python": _Kind(
        Stack.PYTHON, "python", ("python", "python3", "pip", "pip3"), 2, later_minors=2
    ),
    "golang": _Kind(Stack.GO, "go", ("go",), 2, True, workdir="/go"),
    "rust": _Kind(Stack.RUST, "rust", ("cargo", "rustc"), 2, True),
    "ruby": _Kind(
        Stack.RUBY, "ruby", ("ruby", "bundle", "gem"), 2,
        environment=(("GEM_HOME", "/usr/local/bundle"), ("BUNDLE_PATH", "/usr/local/bundle")),
    ),
    "php": _Kind(Stack.PHP, "php", ("php",), 2, True),
    "nginx": _NGINX,
    "nginxinc/nginx-unprivileged": _NGINX,
    "httpd": _Kind(
        Stack.STATIC, "caddy", (), 0, workdir="/usr/local/apache2", server="httpd-foreground",
        configuration="/usr/local/apache2/conf", roots=("/usr/local/apache2/htdocs",),
    ),
    "caddy": _Kind(
        Stack.STATIC, "caddy", ("caddy",), 0, workdir="/srv", server="caddy",
        configuration="/etc/caddy", roots=("/usr/share/caddy",),
    ),
}  # fmt: skip
# Without a language: for programs that another stage has built.
_BARE = re.compile(r"(?:scratch|alpine|debian|ubuntu|busybox|gcr\.io/distroless/(?:static|base|cc))"
                   r"(?:-debian\d+)?\Z")  # fmt: skip
_PLAIN = ", ".join(sorted({*_KINDS, "alpine", "debian", "scratch"}))


def image_of(instruction: Instruction, reference: str, toolbox: Toolbox) -> Image:
    """Returns the image of a FROM. Raises RuntimeUnsupported if it can't be had here."""
    match = _REFERENCE.match(reference)
    name, tag = (match["name"], match["tag"] or "") if match else ("", "")
    if _BARE.match(name):
        own = () if name == "scratch" else _DIRECTORIES
        return Image(reference, None, None, directories=own)
    pythons = _UVS_PYTHON.search(tag) if name == _UV else None
    if pythons is not None:
        name, tag = "python", pythons[1]
    kind = _KINDS.get(name)
    if kind is None:
        raise instruction.refused(
            f"only plain images are planned here ({_PLAIN}); with hasDockerfile: false the build "
            "is planned from the files"
        )
    server, roots = kind.server, kind.roots
    if kind.stack is Stack.PHP:
        if "fpm" in tag:
            raise instruction.refused("PHP-FPM needs a web server beside it; take php or its -cli")
        server = "apache2-foreground" if "apache" in tag else ""
        roots = _APACHE_ROOTS if server else roots
    return Image(
        reference, kind.stack, _tool(instruction, kind, tag, toolbox),
        frozenset((*kind.programs, "uv") if pythons else kind.programs),
        "/var/www/html" if server == "apache2-foreground" else kind.workdir,
        kind.environment, server, kind.configuration, roots, _DIRECTORIES,
    )  # fmt: skip


def is_composer(reference: str) -> bool:
    """Whether it is the image of PHP's package manager, which is here already."""
    return _COMPOSER.match(reference) is not None


def _tool(instruction: Instruction, kind: _Kind, tag: str, toolbox: Toolbox) -> Tool:
    """Returns the program of the tag's version: exactly that one, or the nearest that runs it."""
    match = _NUMBER.search(tag) if kind.parts else None
    source = f"Dockerfile line {instruction.line}"
    if match is None:
        return find_tool(toolbox, kind.program, wanted_from("*", source)).tool
    parts = match[1].split(".")
    line = ".".join(parts[: kind.parts])
    fitting = f">={line} <{int(parts[0]) + 1}" if kind.is_newer_fine else line
    minor = int(parts[1]) if len(parts) > 1 else 0
    later = (f"{parts[0]}.{minor + more}" for more in range(1, kind.later_minors + 1))
    for text in (match[1], fitting, *later):
        wanted = wanted_from(text, source)
        tool = toolbox.choose(kind.program, wanted.range) if wanted else None
        if tool is not None:
            return tool
    return find_tool(toolbox, kind.program, wanted_from(fitting, source)).tool
