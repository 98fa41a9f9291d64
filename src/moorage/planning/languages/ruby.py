"""Ruby apps: Rails, Rack (config.ru), and a script that is its own server."""

import re
from collections.abc import Iterator

from moorage.planning.explicit import Asked, Found, Wanted, find_tool, pinned, wanted_from
from moorage.planning.plan import Recipe, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.static import serve
from moorage.planning.toolbox import Toolbox

SCRIPTS = ("app.rb", "server.rb", "main.rb")
LOOKED_FOR = (
    "Gemfile with config/environment.rb or config.ru, or Jekyll with _config.yml",
    ", ".join(SCRIPTS) + ", with a Gemfile or a server in it",
)
_GEMS = (("BUNDLE_PATH", "vendor/bundle"), ("BUNDLE_WITHOUT", "development:test"))
_PRODUCTION = (("RAILS_ENV", "production"), ("RACK_ENV", "production"), ("APP_ENV", "production"))
_REQUIRES_SERVER = re.compile(
    rb"^[ \t]*require[ \t(]+['\"](?:sinatra|roda|rack|rackup|webrick|puma|socket)\b", re.MULTILINE
)
_GEMFILE_RUBY = re.compile(r"^[ \t]*ruby[ \t(]+(['\"][^\n#]{1,80})", re.MULTILINE)
_GEMFILE_RUBY_FILE = re.compile(r"^[ \t]*ruby[ \t(]+file:", re.MULTILINE)
_REQUIREMENT = re.compile(r"""['"][ \t]*(~>|>=|<=|!=|=|>|<)?[ \t]*(\d[\d.]{0,20})[ \t]*['"]""")
_JEKYLL = "_config.yml"
_JEKYLLS_GEM = re.compile(rb"^[ \t]*gem[ \t(]+['\"](?:jekyll|github-pages)['\"]", re.MULTILINE)
_BUILDS = {
    "config/environment.rb": "bundle exec rails assets:precompile",
    _JEKYLL: "bundle exec jekyll build",
}
_GEMFILES = ("Gemfile", "Gemfile.lock")
_PUMA = re.compile(rb"\bpuma\b")
_OTHERS = ("package.json", "requirements.txt", "pyproject.toml", "index.php")
_READ = 65_536  # bytes of a Gemfile or a script


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A Rails or Rack app, or a script; None without. Raises RuntimeUnsupported."""
    has_gems = folder.has("Gemfile")
    file = _started_file(folder, has_gems=has_gems)
    if file is None:
        return None
    found = _ruby(folder, asked, toolbox, has_gems=has_gems)
    install = "bundle install" if has_gems else None
    build = _BUILDS.get(file)
    because = (f"Gemfile and {file} are there" if has_gems else f"{file} is there", found.because)
    home = _GEMS if has_gems else ()
    return Recipe(
        Stack.RUBY,
        install if asked.install is None else asked.install,
        build if asked.build is None else asked.build,
        asked.run or _start(folder, file, has_gems=has_gems),
        tuple(sentence for sentence in because if sentence),
        build_env=(*home, *_PRODUCTION, ("SECRET_KEY_BASE_DUMMY", "1")),
        run_env=(*home, *_PRODUCTION, ("RAILS_LOG_TO_STDOUT", "1")),
        tools=(found.tool,),
    )


def _started_file(folder: Folder, *, has_gems: bool) -> str | None:
    """Returns the file to start; without a Gemfile, a script must clearly be a server."""
    if has_gems:
        gems = folder.data("Gemfile", limit=_READ)
        site = (_JEKYLL,) if _JEKYLLS_GEM.search(gems) else ()
        return folder.first("config/environment.rb", "config.ru", *site, *SCRIPTS)
    script = None if folder.first(*_OTHERS) else folder.first(*SCRIPTS)
    if script is None or not _REQUIRES_SERVER.search(folder.data(script, limit=_READ)):
        return None
    return script


def _start(folder: Folder, file: str, *, has_gems: bool) -> str:
    if file == "config/environment.rb":
        return "bundle exec rails server -b 0.0.0.0 -p $PORT"
    if file == "config.ru" and _has_puma_alone(folder):
        return "bundle exec puma --bind tcp://0.0.0.0:$PORT"
    if file == "config.ru":
        return "bundle exec rackup --host 0.0.0.0 --port $PORT"
    if file == _JEKYLL:
        return serve("_site", fallback=False)
    return f"bundle exec ruby {file}" if has_gems else f"ruby {file}"


def _has_puma_alone(folder: Folder) -> bool:
    """Whether the gems include Puma but not rackup, which is a separate gem since Rack 3."""
    gems = b"".join(folder.data(name, limit=_READ) for name in _GEMFILES if folder.has(name))
    return _PUMA.search(gems) is not None and b"rackup" not in gems


def _ruby(folder: Folder, asked: Asked, toolbox: Toolbox, *, has_gems: bool) -> Found:
    """Returns the Ruby to use; the machine's own may lack Bundler, a toolchain's has it."""
    found = find_tool(toolbox, "ruby", _wanted(folder, asked, has_gems=has_gems))
    if has_gems and found.tool.is_hosts:
        find_tool(toolbox, "bundler", None)
    return found


def _wanted(folder: Folder, asked: Asked, *, has_gems: bool) -> Wanted | None:
    """Returns the Gemfile's Ruby version: Bundler refuses every other one."""
    if asked.program == "ruby" and asked.version is not None:
        return asked.version
    text = folder.data("Gemfile", limit=_READ).decode(errors="replace") if has_gems else ""
    match = _GEMFILE_RUBY.search(text)
    if match is not None:
        return wanted_from(" ".join(_ranges(match[1])), "the Gemfile's ruby")
    is_strict = _GEMFILE_RUBY_FILE.search(text) is not None
    version = pinned(folder, ".ruby-version").removeprefix("ruby-")
    return wanted_from(version, folder.path(".ruby-version"), is_strict=is_strict)


def _ranges(text: str) -> Iterator[str]:
    """Yields Bundler's requirements in npm's grammar: in `~> 3.2` the last number may grow."""
    for operator, version in _REQUIREMENT.findall(text):
        if operator != "~>":
            yield f"{operator}{version}"
            continue
        *kept, _ = version.strip(".").split(".")
        below = [*kept[:-1], str(int(kept[-1] or 0) + 1)] if kept else []
        yield f">={version}" + (f" <{'.'.join(below)}" if below else "")
