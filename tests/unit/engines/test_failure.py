"""What is said of an app that does not start."""

from moorage.engines.engine import InstanceSpec
from moorage.engines.failure import crashed, failed_with, not_bound
from moorage.planning.static import serve
from support.engines.small_apps import LIMITS, plan


def test_failed_site_shows_nothing_of_our_own_configuration() -> None:
    spec = InstanceSpec(
        deployment_id="first", plan=plan(start=serve("out", fallback=True)), limits=LIMITS
    )
    for failed in (crashed(spec, code=1, tail=""), not_bound(spec, 5, tail="")):
        assert failed.reason.startswith("the server of the site's files ")


def test_failed_start_names_the_owners_command() -> None:
    spec = InstanceSpec(deployment_id="first", plan=plan(), limits=LIMITS)
    assert crashed(spec, code=1, tail="").reason.startswith("`node index.js` ended")


def test_failed_step_is_named_and_not_quoted_where_a_planner_wrote_a_long_line() -> None:
    line = (
        "npm install --no-audit --loglevel=error || { npm install --dry-run 2>&1 | grep ERESOLVE; }"
    )
    assert failed_with("npm ci", 1, is_install=True) == "`npm ci` failed with exit code 1"
    assert failed_with(line, 1, is_install=True) == "the install failed with exit code 1"
    assert failed_with("set -e\nmake", 2, is_install=False) == "the build failed with exit code 2"
