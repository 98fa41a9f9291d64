"""The argument lists that start an isolated command without root."""

from pathlib import Path

from moorage.engines.engine import Limits
from moorage.engines.rootless.pasta import Files, command_argv, enter_argv, marker, rlimits

MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=256 * MIB, cpu_millis=500, pids=64, disk_bytes=1024 * MIB)
FILES = Files(
    rules=Path("/run/x/rules.nft"), seccomp=Path("/run/x/seccomp.bpf"), status=Path("/d/status")
)


def argv(*, files: Files = FILES, groups: tuple[Path, ...] = ()) -> list[str]:
    return command_argv(
        marker=Path("/state/deployments/first"),
        files=files,
        groups=groups,
        rlimits=("--nproc=64",),
        command="exec node index.js",
    )


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def test_nothing_leads_from_the_app_to_the_machines_loopback_or_back() -> None:
    """By passt(1), each of these is open unless it is said not to be."""
    arguments = argv()[: argv().index("--")]
    assert [option(arguments, name) for name in ("-t", "-u", "-T", "-U")] == ["none"] * 4
    assert option(arguments, "--map-host-loopback") == "none"
    assert option(arguments, "--map-guest-addr") == "none"
    assert "--no-map-gw" in arguments
    assert "--ipv4-only" in arguments


def test_filter_is_loaded_before_anything_of_the_app_runs() -> None:
    arguments = argv()
    script = arguments[arguments.index("-c") + 1]
    lines = script.splitlines()
    assert lines[:2] == ["set -eu", 'nft -f "$1"']
    assert lines[-1] == 'exec "$@"'
    assert "/run/x/rules.nft" in arguments


def test_app_dies_with_pasta() -> None:
    arguments = argv()
    assert option(arguments, "--pdeathsig") == "KILL"
    assert arguments.index("--pdeathsig") < arguments.index("bwrap")


def test_a_process_is_told_by_its_marker_and_nobody_elses_is() -> None:
    assert marker(argv()) == "/state/deployments/first"
    assert marker(["pasta", "--quiet", "sh"]) is None
    assert marker(["sh", *argv()]) is None
    assert marker([]) is None


def test_groups_are_joined_up_to_the_dashes() -> None:
    arguments = argv(groups=(Path("/sys/fs/cgroup/own/app-first"),))
    at = arguments.index("/sys/fs/cgroup/own/app-first")
    assert arguments[at + 1] == "--"
    assert arguments[at + 2] == "prlimit"


def test_build_has_no_status_file() -> None:
    arguments = argv(files=Files(rules=FILES.rules, seccomp=FILES.seccomp, status=None))
    assert arguments[arguments.index("/run/x/seccomp.bpf") + 1] == "-"


def test_each_process_is_held_to_what_no_control_group_holds() -> None:
    assert rlimits(LIMITS, hard_files=20_000, memory=True) == [
        "--data=268435456",
        "--nproc=64",
        "--fsize=1073741824",
        "--nofile=20000",
        "--core=1:1",
    ]


def test_control_group_holds_memory_in_place_of_the_process_limit() -> None:
    assert not any("data" in it for it in rlimits(LIMITS, hard_files=20_000, memory=False))


def test_door_enters_user_and_network_namespace_of_the_app() -> None:
    assert enter_argv(4711, ["true"]) == [
        "nsenter",
        "--target=4711",
        "--user",
        "--net",
        "--preserve-credentials",
        "true",
    ]
