"""What a machine lacks, and what fixes it."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moorage.operate.check import Finding
from moorage.operate.check.machine import Machine, Port, inspect_machine, install_command, judge
from moorage.settings import load_settings
from moorage.storage.postgres import Server

SERVER = Server(version=15, encoding="UTF8", standby=False, may_create=True, pooled=True)
GOOD = Machine(
    system="Linux",
    python=(3, 13),
    root=True,
    missing_bundled=(),
    proxy=(3, 0),
    missing_app_programs=(),
    isolation=(),
    forwarding=True,
    anvil="/repo/node_modules/anvil",
    ports=(Port(setting="port", number=8402, free=True),),
    data_dir="/var/lib/moorage",
    data_dir_problem="",
    database=SERVER,
)


def missing(machine: Machine) -> list[tuple[str, str]]:
    """Name and remedy of each finding that is not ok."""
    return [(finding.name, finding.remedy) for finding in judge(machine) if not finding.ok]


def test_good_machine_lacks_nothing_and_needs_no_remedies() -> None:
    found = judge(GOOD)
    assert missing(GOOD) == []
    assert {finding.remedy for finding in found} == {""}
    assert all(finding.detail for finding in found)
    assert [finding.name for finding in found] == [
        "linux",
        "python",
        "bundled programs",
        "haproxy",
        "programs for Node apps",
        "local chains",
        "packet forwarding",
        "data directory",
        "disk",
        "database",
        "isolation",
        "port 8402",
    ]


def test_programs_for_node_apps_are_not_missed_where_apps_run_in_images() -> None:
    machine = replace(GOOD, missing_app_programs=None)
    (found,) = (it for it in judge(machine) if it.name == "programs for Node apps")
    assert (found.ok, found.detail) == (True, "not needed: apps run in images")


@pytest.mark.parametrize(
    ("change", "name", "remedy"),
    [
        ({"python": (3, 10)}, "python", "rm -r .venv && make setup PYTHON=python3.13"),
        ({"python": (3, 14)}, "python", "rm -r .venv && make setup PYTHON=python3.13"),
        ({"missing_bundled": ("caddy",)}, "bundled programs", "make setup"),
        ({"proxy": None}, "haproxy", "apt-get install -y haproxy (version 3.0 or newer)"),
        ({"proxy": (2, 8)}, "haproxy", "apt-get install -y haproxy (version 3.0 or newer)"),
        (
            {"missing_app_programs": ("npm", "node")},
            "programs for Node apps",
            "apt-get install -y nodejs npm",
        ),
        ({"anvil": ""}, "local chains", "npm ci --ignore-scripts"),
        ({"data_dir_problem": "open"}, "data directory", "chmod 700 /var/lib/moorage"),
        ({"isolation": ("no loop devices: modprobe loop",)}, "isolation", "modprobe loop"),
        (
            {"isolation": ("programs are missing: apt-get install nftables bubblewrap",)},
            "isolation",
            "apt-get install -y bubblewrap nftables",
        ),
        (
            {"free_mib": 3071, "needed_mib": 3072},
            "disk",
            "enlarge the disk, or lower disk_reserve_mib or app_disk_mib",
        ),
        (
            {"schema_problem": "newer"},
            "database",
            "run the version that wrote it, or restore a backup of before: docs/run/upgrade.md",
        ),
        ({"database": "no answer"}, "database", "set database_url right"),
        (
            {"database": replace(SERVER, version=14)},
            "database",
            "use a server of version 15 or later",
        ),
        (
            {"database": replace(SERVER, encoding="LATIN1")},
            "database",
            "createdb --encoding=UTF8 --template=template0",
        ),
        (
            {"database": replace(SERVER, standby=True)},
            "database",
            "name the primary in database_url",
        ),
        (
            {"database": replace(SERVER, may_create=False)},
            "database",
            "make it the database's owner: ALTER DATABASE … OWNER TO …",
        ),
        (
            {"database": replace(SERVER, closing_sql="REVOKE CONNECT ON DATABASE x FROM PUBLIC;")},
            "database",
            "as its owner: REVOKE CONNECT ON DATABASE x FROM PUBLIC;",
        ),
        (
            {"ports": (Port(setting="proxy_listen", number=8080, free=False),)},
            "proxy_listen 8080",
            "ss -ltnp 'sport = :8080' shows who has it; or set another proxy_listen",
        ),
    ],
)
def test_what_is_missing_comes_with_its_command(
    change: dict[str, Any], name: str, remedy: str
) -> None:
    assert missing(replace(GOOD, **change)) == [(name, remedy)]


def test_books_from_before_the_first_release_are_found(db_path: Path) -> None:
    with closing(sqlite3.connect(db_path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0045'")
    settings = load_settings(file=None, environ={}, data_dir=str(db_path.parent))
    assert "before the first release" in inspect_machine(settings).schema_problem


def test_books_that_the_next_start_upgrades_are_found(db_path: Path, later_release: str) -> None:
    settings = load_settings(file=None, environ={}, data_dir=str(db_path.parent))
    machine = inspect_machine(settings)
    (found,) = [each for each in judge(machine) if each.name == "database"]
    assert (found.ok, found.warns) == (True, True), later_release
    assert "the start upgrades it" in found.detail
    assert "moorage operator backup" in found.remedy


@pytest.mark.parametrize(
    ("database", "detail"),
    [
        (None, "a file in the data directory"),
        (SERVER, "PostgreSQL 15, behind a pooler of transactions"),
        (replace(SERVER, version=18, pooled=False), "PostgreSQL 18"),
    ],
)
def test_database_is_described(database: Server | None, detail: str) -> None:
    found = {finding.name: finding.detail for finding in judge(replace(GOOD, database=database))}
    assert found["database"] == detail


def test_port_of_the_running_gateway_is_no_strangers() -> None:
    port = Port(setting="port", number=8402, free=False, ours=True)
    assert missing(replace(GOOD, ports=(port,))) == []


def test_another_system_is_the_only_finding() -> None:
    (finding,) = judge(replace(GOOD, system="Darwin", isolation=("x: y",)))
    assert (finding.name, finding.ok) == ("linux", False)


def test_local_chains_need_nothing_where_chains_are_configured() -> None:
    assert missing(replace(GOOD, anvil=None)) == []


@pytest.mark.parametrize(("root", "lacks"), [(True, []), (False, ["packet forwarding"])])
def test_forwarding_may_be_off_where_the_gateway_can_turn_it_on(
    root: bool, lacks: list[str]
) -> None:
    machine = replace(GOOD, forwarding=False, root=root)
    assert [name for name, _ in missing(machine)] == lacks


def test_everything_missing_is_said_at_once() -> None:
    bare = replace(
        GOOD, missing_bundled=("caddy", "uv"), missing_app_programs=("node",), isolation=("a: b",)
    )
    assert len(missing(bare)) == 3


def test_command_asks_for_root_and_names_each_package_once() -> None:
    assert install_command(["npm", "nodejs", "npm"], root=False) == (
        "sudo apt-get install -y nodejs npm"
    )


def test_finding_has_the_fields_that_the_command_prints() -> None:
    assert Finding.__struct_fields__ == ("name", "ok", "detail", "remedy", "warns", "blocks")
