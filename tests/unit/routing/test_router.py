"""The route table: names, switches and what a crash leaves."""

from pathlib import Path

import pytest

from moorage.address import Address
from moorage.errors import InvalidField
from moorage.routing.haproxy_config import host_of_header, is_host
from moorage.routing.router import Router


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("a.localhost", "a.localhost"),
        ("a.localhost:8080", "a.localhost"),
        ("a.localhost.", "a.localhost"),
        ("a.localhost.:8080", "a.localhost"),
        ("A.localhost", "A.localhost"),
        ("[::1]:8080", "[::1]"),
        ("", ""),
    ],
)
def test_port_and_trailing_dot_are_dropped(header: str, host: str) -> None:
    assert host_of_header(header) == host


def test_host_name_has_at_most_253_characters() -> None:
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(longest) == 253
    assert is_host(longest)
    assert not is_host(longest + "a")


BLUE = Address("unix:/run/blue.sock")
GREEN = Address("unix:/run/green.sock")
REMOTE = Address("10.1.2.3:3000")


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path, "localhost")


def told(run_dir: Path, host: str) -> str:
    """What the proxy has for a host in its map."""
    return str((run_dir / "routes" / host).readlink())


def test_host_is_name_under_base_domain(router: Router) -> None:
    assert router.host("my-app") == "my-app.localhost"


async def test_pointed_host_leads_to_its_app(router: Router, tmp_path: Path) -> None:
    await router.point("a.localhost", BLUE)
    await router.point("b.localhost", REMOTE)
    await router.point("c.localhost", Address("[fd00::7]:80"))
    assert router.target("a.localhost") == BLUE
    assert Router(tmp_path, "localhost").routes() == {
        "a.localhost": BLUE,
        "b.localhost": REMOTE,
        "c.localhost": Address("[fd00::7]:80"),
    }
    assert told(tmp_path, "b.localhost") == "10.1.2.3_3000"
    assert told(tmp_path, "c.localhost") == "fd00::7_80"
    assert (tmp_path / "sockets" / told(tmp_path, "a.localhost")).readlink() == BLUE.path


async def test_each_switch_to_a_socket_has_a_server_of_its_own(
    router: Router, tmp_path: Path
) -> None:
    await router.point("a.localhost", BLUE)
    before = told(tmp_path, "a.localhost")
    await router.point("a.localhost", GREEN)
    after = told(tmp_path, "a.localhost")
    assert after != before  # else pooled connections would go on reaching the old app
    assert router.servers() == [after]
    assert [path.name for path in (tmp_path / "sockets").iterdir()] == [after]


async def test_pointing_again_changes_nothing(router: Router, tmp_path: Path) -> None:
    await router.point("a.localhost", BLUE)
    before = told(tmp_path, "a.localhost")
    await router.point("a.localhost", BLUE)
    assert told(tmp_path, "a.localhost") == before


async def test_removed_host_leads_nowhere_and_leaves_nothing(
    router: Router, tmp_path: Path
) -> None:
    await router.point("a.localhost", BLUE)
    await router.remove("a.localhost")
    await router.remove("a.localhost")
    assert router.routes() == {}
    assert router.target("a.localhost") is None
    assert not list((tmp_path / "routes").iterdir())
    assert not list((tmp_path / "sockets").iterdir())


async def test_starting_proxy_reads_every_route(router: Router, tmp_path: Path) -> None:
    await router.point("a.localhost", REMOTE)
    await router.point("b.localhost", BLUE)
    router.write_map()
    lines = (tmp_path / "hosts.map").read_text().splitlines()
    assert sorted(lines) == ["a.localhost 10.1.2.3_3000", f"b.localhost {router.servers()[0]}"]


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc",
        "a..b",
        ".a",
        "a.",
        "-a.localhost",
        "a-.localhost",
        "A.localhost",
        "ä.localhost",
        "a_b.localhost",
        "a.localhost\n",
        "a\0.localhost",
        "a b",
        "*.localhost",
        "[::1]",
        "a:80",
        "x" * 64 + ".localhost",
        "a." * 123 + "localhost",
    ],
)
async def test_what_is_no_host_name_is_refused(router: Router, tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidField, match="host"):
        await router.point(host, BLUE)
    with pytest.raises(InvalidField, match="host"):
        await router.remove(host)
    assert router.target(host) is None
    assert not list((tmp_path / "routes").iterdir())


@pytest.mark.parametrize("base_domain", ["", "Example.com", "a/b", "..", "x." * 110 + "com"])
def test_unusable_base_domain_is_refused_at_construction(tmp_path: Path, base_domain: str) -> None:
    with pytest.raises(InvalidField, match="base_domain"):
        Router(tmp_path, base_domain)


async def test_leftovers_of_a_crash_are_no_routes(router: Router, tmp_path: Path) -> None:
    await router.point("a.localhost", BLUE)
    (tmp_path / "sockets" / "s0badc0de").symlink_to("/run/x.sock")  # died before the switch
    (tmp_path / "routes" / ".b.localhost").symlink_to("10.1.2.3_80")
    (tmp_path / "routes" / "c.localhost").symlink_to("s1badc0de")  # its socket is gone
    again = Router(tmp_path, "localhost")
    await again.load()
    assert again.routes() == {"a.localhost": BLUE}
    assert [path.name for path in (tmp_path / "sockets").iterdir()] == again.servers()
    await again.point("b.localhost", REMOTE)
    assert again.target("b.localhost") == REMOTE
