"""Ruby apps: Rails, Rack (config.ru), a script that is its own server, and Jekyll's sites."""

import re
from collections.abc import Iterator
from shlex import quote
from typing import NamedTuple

from moorage.errors import PlanNotFound
from moorage.planning.explicit import Asked, Found, Wanted, find_tool, pinned, wanted_from
from moorage.planning.plan import Recipe, Stack, no_port
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import by_word, in_place, table, word_set, yaml_document
from moorage.planning.static import serve
from moorage.planning.toolbox import Toolbox

SCRIPTS = ("app.rb", "server.rb", "main.rb")
LOOKED_FOR = (
    "Gemfile with config/environment.rb or config.ru; Jekyll's _config.yml with pages",
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
_RAILS = "config/environment.rb"
_DATABASE = "config/database.yml"
_RAILS_RUNS = (("RAILS_SERVE_STATIC_FILES", "1"), ("RAILS_LOG_TO_STDOUT", "1"))
_HANAMI_RUNS = (("HANAMI_ENV", "production"), ("HANAMI_SERVE_ASSETS", "true"))
_JEKYLL = "_config.yml"
_JEKYLLS_PAGES = ("index.md", "index.markdown", "index.html", "README.md")
_THEMES = frozenset(("theme", "remote_theme"))
_GEM = re.compile(r"[a-z][\w-]{0,80}")
_GEMS_LISTED = re.compile(rb"^[ \t]*gem[ \t(]+['\"]([\w-]{1,80})['\"]", re.MULTILINE)
_LISTENS = re.compile(rb"TCPServer|WEBrick|Rack::|Sinatra|[Ww]ebhook|\bPORT\b")
_JEKYLLS_GEM = re.compile(rb"^[ \t]*gem[ \t(]+['\"](?:jekyll|github-pages)['\"]", re.MULTILINE)
_BUILDS = {
    _RAILS: "bundle exec rails assets:precompile",
    # A path that the site has on another host would be missing in front of its links here.
    _JEKYLL: "bundle exec jekyll build --baseurl ''",
}
_ASSETS = re.compile(rb"^[ \t]*gem[ \t(]+['\"](?:sprockets|propshaft)", re.MULTILINE)
_APPLICATION = "config/application.rb"
_MIGRATIONS = "db/migrate"
_MIGRATE = "bundle exec rake db:migrate"
_GEMFILES = ("Gemfile", "Gemfile.lock")
_PUMA = re.compile(rb"\bpuma\b")
_TABLE = table("languages/ruby")
_SERVERS = word_set(
    "agoo falcon grape hanami iodine puma rack rackup rails roda sinatra syro thin unicorn webrick"
)
_OTHERS = ("package.json", "requirements.txt", "pyproject.toml", "index.php")
_SCRIPTS_LIMIT = 100  # in which a server is looked for


class _Site(NamedTuple):
    """A site that a gem builds."""

    files: str
    build: str
    output: str


_PORTLESS = by_word(_TABLE["portless"])
_SITES = {gem: _Site(*row) for gem, row in _TABLE["sites"].items()}


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A Rails or Rack app, or a script; None without. Raises RuntimeUnsupported."""
    has_gems = folder.has("Gemfile")
    listed = _listed(folder) if has_gems else frozenset()
    site = next((it for gem, it in _SITES.items() if gem in listed), None)
    file = folder.first(*site.files.split()) if site is not None else None
    if site is None or file is None:
        site, file = None, _started_file(folder, has_gems=has_gems)
    if (
        has_gems
        and site is None
        and asked.seeks_server
        and file not in (_RAILS, "config.ru", _JEKYLL)
    ):
        _refuse_portless(folder, listed)
    if file is None:
        return None
    gems: tuple[str, ...] = ()
    if not has_gems:
        gems = _jekylls_gems(folder) if file == _JEKYLL else _required(folder, file)
    found = _ruby(folder, asked, toolbox, file=file, has_gems=has_gems or bool(gems))
    install = "bundle install" if has_gems else None
    if has_gems and _exact(folder) not in ("", str(found.tool.version)):
        install = f"{_ANY_PATCH} && bundle install"
    because = [f"Gemfile and {file} are there" if has_gems else f"{file} is there", found.because]
    if gems:
        group = ", group: :jekyll_plugins" if file == _JEKYLL else ""
        named = (f'gem "{gem}"{group}' for gem in gems)
        lines = ('source "https://rubygems.org"', *named)
        install = f"printf '%s\\n' {' '.join(map(quote, lines))} > Gemfile && bundle install"
        because.append(f"there is no Gemfile: one is made, with {', '.join(gems)}")
    build, is_rails = site.build if site else _BUILDS.get(file), file == _RAILS
    if is_rails and _lacks_pages(folder):
        build = None
    has_gems = has_gems or bool(gems)
    start = serve(site.output, fallback=False) if site else _start(folder, file, has_gems=has_gems)
    run = asked.run
    if is_rails and folder.has(_DATABASE) and (run is None or asked.leaves_database("db:")):
        because.append("its database is prepared before each start, as builds see none")
        run = run and f"{_PREPARE}\n{in_place(run)}"
    if site is None and not is_rails and _migrates(folder):
        because.append(f"{_MIGRATIONS} is there: {_MIGRATE} before each start")
        start = f"{_MIGRATE}\nexec {start}"
    home = _GEMS if install else ()
    own = Recipe(
        Stack.RUBY,
        install,
        build,
        start,
        tuple(because),
        build_env=(*home, *_PRODUCTION, ("SECRET_KEY_BASE_DUMMY", "1")),
        run_env=(
            *home,
            *_PRODUCTION,
            *(_RAILS_RUNS if is_rails else ()),
            *(_HANAMI_RUNS if "hanami" in listed else ()),
        ),
        tools=(found.tool,),
        secrets=("SECRET_KEY_BASE",) if is_rails and not folder.has("config/master.key") else (),
    )
    return asked.over(own)._replace(start=run or start)


def _lacks_pages(folder: Folder) -> bool:
    """Whether it is a Rails that answers requests alone: then no task makes assets."""
    text = folder.source(_APPLICATION)
    gems = folder.source("Gemfile")
    return b"api_only = true" in text and _ASSETS.search(gems) is None


def _migrates(folder: Folder) -> bool:
    """Whether the Rakefile has Active Record's tasks for migrations that are there."""
    if not (folder.has_directory(_MIGRATIONS) and folder.has("Rakefile")):
        return False
    return b"activerecord/rake" in folder.source("Rakefile")


def _listed(folder: Folder) -> frozenset[str]:
    """Returns the gems that the Gemfile names."""
    names = _GEMS_LISTED.findall(folder.source("Gemfile"))
    return frozenset(name.decode() for name in names)


def _refuse_portless(folder: Folder, listed: frozenset[str]) -> None:
    """Raises PlanNotFound for a program that never listens."""
    gem = next((it for it in _PORTLESS if it in listed), "")
    if not gem or not _SERVERS.isdisjoint(listed) or folder.first(*_OTHERS):
        return
    scripts = folder.ending(".rb")[:_SCRIPTS_LIMIT]
    if not any(_LISTENS.search(folder.source(name)) for name in scripts):
        what = f"{folder.path('Gemfile')} has {gem}: this is {_PORTLESS[gem]}"
        raise PlanNotFound(f"{no_port(what)}.")


def _started_file(folder: Folder, *, has_gems: bool) -> str | None:
    """Returns the file to start; without a Gemfile, a script must clearly be a server."""
    if has_gems:
        gems = folder.source("Gemfile")
        site = (_JEKYLL,) if _JEKYLLS_GEM.search(gems) else ()
        return folder.first(_RAILS, "config.ru", *site, *SCRIPTS) or _only_server(folder)
    if folder.first(*_OTHERS):
        return None
    if folder.has(_JEKYLL) and _has_jekylls_pages(folder):
        return _JEKYLL
    script = folder.first(*SCRIPTS)
    if script is None or not _REQUIRES_SERVER.search(folder.source(script)):
        return None
    return script


def _only_server(folder: Folder) -> str | None:
    """Returns the only script right inside that requires a server."""
    names = (name for name in folder.files() if name.endswith(".rb"))
    found = [it for it in names if _REQUIRES_SERVER.search(folder.source(it))]
    return found[0] if len(found) == 1 else None


def _required(folder: Folder, script: str) -> tuple[str, ...]:
    """Returns the gems that a script without a Gemfile requires, of those that are known."""
    names = _REQUIRES.findall(folder.source(script))
    known = (_TABLE["gems"].get(name.decode(), "") for name in names)
    return tuple(dict.fromkeys(gem for listed in known for gem in listed.split()))


_REQUIRES = re.compile(rb"^[ \t]*require[ \t(]+['\"]([\w/-]{1,80})['\"]", re.MULTILINE)


_PREPARE = "bundle exec rails db:prepare"


def _start(folder: Folder, file: str, *, has_gems: bool) -> str:
    if file == _RAILS:
        prepares = f"{_PREPARE}\nexec " if folder.has(_DATABASE) else ""
        return f"{prepares}bundle exec rails server -b 0.0.0.0 -p $PORT"
    if file == "config.ru" and _has_puma_alone(folder):
        return "bundle exec puma --bind tcp://0.0.0.0:$PORT"
    if file == "config.ru":
        return "bundle exec rackup --host 0.0.0.0 --port $PORT"
    if file == _JEKYLL:
        return serve("_site", fallback=False)
    return f"bundle exec ruby {file}" if has_gems else f"ruby {file}"


def _has_jekylls_pages(folder: Folder) -> bool:
    """Whether Jekyll makes pages of posts, Markdown, or a page with front matter."""
    if folder.has_directory("_posts") or folder.has_directory("_layouts"):
        return True
    page = folder.first(*_JEKYLLS_PAGES)
    if page is None or page.endswith(".html"):
        return page is not None and folder.source(page).startswith(b"---")
    return page != "README.md" or not _THEMES.isdisjoint(_jekylls_settings(folder))


def _jekylls_gems(folder: Folder) -> tuple[str, ...]:
    """Returns Jekyll and the gems that its settings name: a theme, and plugins."""
    settings = _jekylls_settings(folder)
    listed = settings.get("plugins", settings.get("gems"))
    names = [settings.get("theme"), *(listed if isinstance(listed, list) else ())]
    if "remote_theme" in settings:
        names.append("jekyll-remote-theme")
    if not folder.first(*_JEKYLLS_PAGES[:3]):
        names += ["jekyll-readme-index", "jekyll-optional-front-matter"]
    gems = (name for name in names if isinstance(name, str) and _GEM.fullmatch(name))
    return tuple(dict.fromkeys(("jekyll", *gems)))


def _jekylls_settings(folder: Folder) -> dict[str, object]:
    found = yaml_document(folder.plain(_JEKYLL))
    return found if isinstance(found, dict) else {}


def _has_puma_alone(folder: Folder) -> bool:
    """Whether the gems include Puma but not rackup, which is a separate gem since Rack 3."""
    gems = b"".join(folder.source(name) for name in _GEMFILES if folder.has(name))
    return _PUMA.search(gems) is not None and b"rackup" not in gems


def _ruby(folder: Folder, asked: Asked, toolbox: Toolbox, *, file: str, has_gems: bool) -> Found:
    """Returns the Ruby to use; the machine's own may lack Bundler, a toolchain's has it."""
    wanted = asked.version_of("ruby") or _wanted(folder)
    if wanted is not None and toolbox.choose("ruby", wanted.range) is None:
        wanted = _of_any_patch(folder, wanted, toolbox)
    found = find_tool(toolbox, "ruby", wanted, file=file)
    if has_gems and found.tool.is_hosts:
        find_tool(toolbox, "bundler", None, file=file)
    return found


def _wanted(folder: Folder) -> Wanted | None:
    """Returns the Gemfile's Ruby version: Bundler refuses every other one."""
    gems = folder.source("Gemfile")
    text = gems.decode(errors="replace")
    match = _GEMFILE_RUBY.search(text)
    if match is not None:
        return wanted_from(" ".join(_ranges(match[1])), "the Gemfile's ruby")
    is_strict = _GEMFILE_RUBY_FILE.search(text) is not None
    version = pinned(folder, ".ruby-version").removeprefix("ruby-")
    return wanted_from(version, folder.path(".ruby-version"), is_strict=is_strict)


_ANY_PATCH = r"sed -i -E 's/^([ \t]*)ruby[ \t(].*$/\1/' Gemfile"


def _exact(folder: Folder) -> str:
    """Returns the one patch version of Ruby that the Gemfile asks for; "" for anything else."""
    gems = folder.source("Gemfile")
    match = _GEMFILE_RUBY.search(gems.decode(errors="replace"))
    listed = _REQUIREMENT.findall(match[1]) if match is not None else []
    if len(listed) != 1 or listed[0][0] not in ("", "="):
        return ""
    version = str(listed[0][1])
    return version if version.count(".") == 2 else ""


def _of_any_patch(folder: Folder, wanted: Wanted, toolbox: Toolbox) -> Wanted:
    """Returns what another patch, or a later minor version, satisfies, where it is not here."""
    exact = _exact(folder)
    if not exact or wanted.source != "the Gemfile's ruby":
        return wanted
    major, *_ = exact.split(".")
    later = wanted_from(
        f">={exact} <{int(major) + 1}", f"the Gemfile's ruby {exact}, or a later one,"
    )
    minor = exact.rpartition(".")[0]
    patch = wanted_from(minor, f"the Gemfile's ruby {exact}, or a patch of it,")
    found = (it for it in (patch, later) if it and toolbox.choose("ruby", it.range))
    return next(found, wanted)


def _ranges(text: str) -> Iterator[str]:
    """Yields Bundler's requirements in npm's grammar: in `~> 3.2` the last number may grow."""
    for operator, version in _REQUIREMENT.findall(text):
        if operator != "~>":
            yield f"{operator}{version}"
            continue
        *kept, _ = version.strip(".").split(".")
        below = [*kept[:-1], str(int(kept[-1] or 0) + 1)] if kept else []
        yield f">={version}" + (f" <{'.'.join(below)}" if below else "")
