"""The argument lists that make a sandbox."""

from pathlib import Path

import msgspec
import pytest

from moorage.engines.host.environment import app_environment, build_environment
from moorage.engines.host.listeners import Listener, proxy_argv
from moorage.engines.host.listeners import limits as door_limits
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.bubblewrap import (
    ATTACHED,
    View,
    bwrap_argv,
    encode_options,
    identity_argv,
    launch_argv,
    options,
)
from moorage.planning.plan import Plan, Stack

DISK = Path("/run/moorage/ab12/disks/x")
PLAN = Plan(
    stack=Stack.NODE,
    directory="web",
    install="npm ci",
    build=None,
    start="node index.js",
    port=3000,
    build_env={"CI": "0", "ONLY_BUILD": "1"},
    run_env={"HOST": "127.0.0.1", "ONLY_RUN": "1"},
    because=(),
)


def view(*, build_tmp: Path | None = None) -> View:
    return View(
        app=DISK / "app",
        home=DISK / "home",
        etc=DISK / "etc",
        tools={"uv": Path("/run/moorage/ab12/bin/uv")},
        build_tmp=build_tmp,
    )


def made(
    *,
    status_fd: int | None,
    build_tmp: Path | None = None,
    directory: str = "",
    leaves_children: bool = False,
) -> list[str]:
    return options(
        view=view(build_tmp=build_tmp),
        environment={"PORT": "3000", "SECRET": "a b"},
        directory=directory,
        seccomp_fd=7,
        status_fd=status_fd,
        leaves_children=leaves_children,
    )


def pairs(arguments: list[str], option: str, count: int = 2) -> list[tuple[str, ...]]:
    return [
        tuple(arguments[i + 1 : i + 1 + count])
        for i, argument in enumerate(arguments)
        if argument == option
    ]


def test_every_isolating_option_is_there() -> None:
    arguments = made(status_fd=9)
    for option in (
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--disable-userns",
        "--new-session",
        "--clearenv",
    ):
        assert option in arguments
    assert ("ALL",) in pairs(arguments, "--cap-drop", 1)
    assert ("7",) in pairs(arguments, "--seccomp", 1)
    assert "--cap-add" not in arguments
    assert "--share-net" not in arguments


def test_only_the_apps_own_directories_are_writable() -> None:
    arguments = made(status_fd=9)
    assert pairs(arguments, "--bind") == [(f"{DISK}/app", "/app"), (f"{DISK}/home", "/home/app")]
    assert {source for source, _ in pairs(arguments, "--dev-bind")} <= {"/dev/null"}
    mounted = max(at for at, it in enumerate(arguments) if it in ("--bind", "--tmpfs", "--dev"))
    # bwrap's /dev is a file system in memory, which has no limit of its own.
    remounted = [path for (path,) in pairs(arguments, "--remount-ro", 1)]
    assert [path for path in remounted if not path.startswith("/proc/")] == ["/", "/dev"]
    assert len(arguments) - arguments[::-1].index("--remount-ro") - 3 > mounted
    in_memory = {path for (path,) in pairs(arguments, "--tmpfs", 1) if path.startswith("/proc/")}
    assert in_memory <= set(remounted)
    assert ("67108864", "--perms", "1777", "--tmpfs", "/tmp") in pairs(arguments, "--size", 5)


def test_build_has_its_tmp_on_disk() -> None:
    arguments = made(status_fd=None, build_tmp=DISK / "tmp")
    assert (f"{DISK}/tmp", "/tmp") in pairs(arguments, "--bind")
    assert ("/tmp",) not in pairs(arguments, "--tmpfs", 1)


def test_nothing_of_the_host_is_shown_but_usr_and_a_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "_ETC", tmp_path)  # a machine without these languages
    sources = {source for source, _ in pairs(made(status_fd=9), "--ro-bind")}
    outside = {it for it in sources if not it.startswith("/run/moorage/ab12/")}
    merged = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
    assert outside <= {"/usr", "/proc/sys", *merged}
    assert {source for source, _ in pairs(made(status_fd=9), "--ro-bind-try")} == {
        "/etc/ssl/certs",
        "/etc/ssl/openssl.cnf",
        "/etc/alternatives",
        "/etc/ld.so.cache",
        "/etc/mime.types",
    }


def test_languages_are_shown_their_parts_of_etc_and_no_settings_of_the_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ["java-21-openjdk", "maven/logging", "maven/m2.conf"]
    shown += ["php/8.4/cli/conf.d", "php/8.4/mods-available"]
    for name in (*shown, "maven/settings.xml", "php/8.4/cli/php.ini", "php/8.4/fpm/pool.d", "java"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(bubblewrap, "_ETC", tmp_path)
    of_languages = {
        source
        for source, target in pairs(made(status_fd=9), "--ro-bind-try")
        if source.startswith(str(tmp_path)) and target == source
    }
    assert of_languages == {str(tmp_path / name) for name in shown}


def test_only_an_app_outlives_what_started_it() -> None:
    assert "--die-with-parent" in made(status_fd=None)
    assert "--die-with-parent" in made(status_fd=9)
    app = made(status_fd=9, leaves_children=True)
    assert "--die-with-parent" not in app
    assert ("9",) in pairs(app, "--json-status-fd", 1)


@pytest.mark.parametrize(("directory", "expected"), [("", "/app"), ("web/site", "/app/web/site")])
def test_commands_run_in_the_plans_directory(directory: str, expected: str) -> None:
    assert pairs(made(status_fd=9, directory=directory), "--chdir", 1) == [(expected,)]


def test_environment_is_in_the_options_and_not_on_the_command_line() -> None:
    assert ("SECRET", "a b") in pairs(made(status_fd=9), "--setenv")
    argv = launch_argv(ATTACHED, [], bwrap_argv(args_fd=8, command="node index.js"))
    assert "SECRET" not in " ".join(argv)
    assert argv[-6:] == ["--args", "8", "--", "/bin/sh", "-c", "node index.js"]


def test_options_are_terminated_by_nul() -> None:
    assert encode_options(["--setenv", "A", "é"]) == "--setenv\0A\0é\0".encode()
    with pytest.raises(ValueError, match="NUL"):
        encode_options(["--setenv", "A", "x\0--bind\0/\0/"])


def test_groups_are_arguments_of_the_launcher_and_never_its_text() -> None:
    argv = launch_argv(ATTACHED, [Path("/sys/fs/cgroup/a b;c")], ["true"])
    assert argv == [
        "/bin/sh", "-c", ATTACHED, "moorage", "/sys/fs/cgroup/a b;c", "--", "true",
    ]  # fmt: skip


def test_identity_gives_up_every_privilege() -> None:
    assert identity_argv(netns=Path("/run/netns/moab12-1"), uid=1_900_000_002) == [
        "nsenter",
        "--net=/run/netns/moab12-1",
        "setpriv",
        "--reuid=1900000002",
        "--regid=1900000002",
        "--clear-groups",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    ]


def test_door_runs_as_a_user_of_its_own_in_the_apps_network() -> None:
    argv = proxy_argv(
        identity_argv(netns=Path("/run/netns/moab12-1"), uid=1_900_000_003),
        listener=Listener("127.0.0.1", 3000, loopback_only=True),
        connections=300,
    )
    assert "--net=/run/netns/moab12-1" in argv
    assert "--reuid=1900000003" in argv
    assert argv[-3:] == [
        "/usr/lib/systemd/systemd-socket-proxyd",
        "--connections-max=300",
        "127.0.0.1:3000",
    ]


def test_door_has_memory_for_all_its_connections_at_their_worst() -> None:
    """Two pipes each, which the kernel makes 64 KiB large (pipe(7)), when neither side reads."""
    assert door_limits(1000).memory_bytes >= 1000 * 2 * 65_536


def test_build_leaves_node_env_unset_and_the_plan_wins() -> None:
    environment = build_environment(PLAN, {"CI": "yes", "REGISTRY": "r"}, {})
    assert "NODE_ENV" not in environment
    assert environment["CI"] == "0"
    assert environment["REGISTRY"] == "r"
    assert environment["ONLY_BUILD"] == "1"
    assert "ONLY_RUN" not in environment
    assert environment["PATH"].startswith("/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:")


def test_build_asks_a_registry_again_that_fails_for_a_moment() -> None:
    """As npm (fetch-retries) and uv (UV_HTTP_RETRIES) are told to: both try less by themselves."""
    environment = build_environment(PLAN, {}, {})
    assert int(environment["npm_config_fetch_retries"]) > 2
    assert int(environment["npm_config_fetch_retry_mintimeout"]) < 10_000
    assert int(environment["UV_HTTP_RETRIES"]) > 3


@pytest.mark.parametrize("where", ["toolchains", "host_tools"])
@pytest.mark.parametrize(("version", "is_apart"), [("1.22.22", True), ("4.9.2", False)])
def test_yarn_1_downloads_apart_from_the_app_with_and_without_a_lock_file(
    where: str, version: str, is_apart: bool
) -> None:
    """What Yarn 2 and later download may be the app's own, in .yarn/cache."""
    for install in ("yarn install --frozen-lockfile", "yarn install"):
        tools = {where: {"yarn": version}}
        by_yarn = msgspec.structs.replace(PLAN, install=install, **tools)
        environment = build_environment(by_yarn, {}, {}, has_downloads=True)
        assert ("YARN_CACHE_FOLDER" in environment) == is_apart


def test_app_is_told_its_port_and_the_plan_wins() -> None:
    environment = app_environment(PLAN, {})
    assert environment["PORT"] == "3000"
    assert environment["NODE_ENV"] == "production"
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["HOST"] == "127.0.0.1"
    assert environment["ONLY_RUN"] == "1"
    assert "ONLY_BUILD" not in environment
