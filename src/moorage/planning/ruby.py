"""Ruby apps: Rails, and what config.ru starts."""

from moorage.planning.explicit import Asked
from moorage.planning.folder import Folder
from moorage.planning.plan import Stack
from moorage.planning.recipe import Recipe
from moorage.planning.toolbox import Toolbox
from moorage.planning.wanted import Wanted, find_tool, pinned, wanted_from

LOOKED_FOR = ("Gemfile with config/environment.rb or config.ru",)
_HOME = (("BUNDLE_PATH", "vendor/bundle"), ("BUNDLE_WITHOUT", "development:test"))


def detect(folder: Folder, asked: Asked, toolbox: Toolbox) -> Recipe | None:
    """A Gemfile beside a Rails or a Rack app; None without. Raises RuntimeUnsupported."""
    file = folder.first("config/environment.rb", "config.ru")
    if file is None or not folder.has("Gemfile"):
        return None
    found = find_tool(toolbox, "ruby", _wanted(folder, asked))
    is_rails = file == "config/environment.rb"
    install = "bundle install"
    build = "bundle exec rails assets:precompile" if is_rails else None
    start = "bundle exec rackup --host 0.0.0.0 --port $PORT"
    if is_rails:
        start = "bundle exec rails server -b 0.0.0.0 -p $PORT"
    because = (f"Gemfile and {file} are there", found.because)
    return Recipe(
        Stack.RUBY,
        install if asked.install is None else asked.install,
        build if asked.build is None else asked.build,
        asked.run or start,
        tuple(sentence for sentence in because if sentence),
        build_env=(*_HOME, ("RAILS_ENV", "production"), ("SECRET_KEY_BASE_DUMMY", "1")),
        run_env=(*_HOME, ("RAILS_ENV", "production"), ("RAILS_LOG_TO_STDOUT", "1")),
        toolchains=tuple(found.tool.toolchains.items()),
    )


def _wanted(folder: Folder, asked: Asked) -> Wanted | None:
    if asked.program == "ruby" and asked.version is not None:
        return asked.version
    text = pinned(folder, ".ruby-version").removeprefix("ruby-")
    return wanted_from(text, folder.path(".ruby-version"), is_strict=False)
