"""The route table: names, switches and what a crash leaves."""

from pathlib import Path

import pytest

from moorage.address import Address
from moorage.errors import InvalidField
from moorage.routing.router import MAX_HOST_LENGTH, Router

BLUE = Address("unix:/run/blue.sock")
GREEN = Address("unix:/run/green.sock")
REMOTE = Address("10.1.2.3:3000")


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path, "localhost")


def generation(run_dir: Path, host: str) -> str:
    (marker,) = (run_dir / "routes" / host).iterdir()
    return marker.name


def dialled(run_dir: Path, host: str) -> Address:
    """Where the proxy gets: what `sockets/<host>/<generation>` leads to."""
    return Address.unix((run_dir / "sockets" / host / generation(run_dir, host)).readlink())


def test_host_is_name_under_base_domain(router: Router) -> None:
    assert router.host("my-app") == "my-app.localhost"


def test_pointed_host_leads_to_its_socket(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    router.point("b.localhost", GREEN)
    assert router.routes() == {"a.localhost": BLUE, "b.localhost": GREEN}
    assert router.target("a.localhost") == BLUE
    assert dialled(tmp_path, "a.localhost") == BLUE


def test_switch_changes_the_dialled_path(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    before = generation(tmp_path, "a.localhost")
    router.point("a.localhost", GREEN)
    after = generation(tmp_path, "a.localhost")
    assert after != before  # else pooled connections would go on reaching the old app
    assert dialled(tmp_path, "a.localhost") == GREEN
    assert router.routes() == {"a.localhost": GREEN}


def test_previous_generation_stays_dialable_until_the_next_switch(
    router: Router, tmp_path: Path
) -> None:
    sockets = tmp_path / "sockets" / "a.localhost"
    router.point("a.localhost", BLUE)
    first = generation(tmp_path, "a.localhost")
    router.point("a.localhost", GREEN)
    assert (sockets / first).readlink() == BLUE.path
    router.point("a.localhost", Address("unix:/run/third.sock"))
    assert not (sockets / first).is_symlink()
    assert len(list(sockets.iterdir())) == 2


def test_pointing_again_changes_nothing(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    before = generation(tmp_path, "a.localhost")
    router.point("a.localhost", BLUE)
    assert generation(tmp_path, "a.localhost") == before


def test_removed_host_leads_nowhere_and_leaves_nothing(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    router.remove("a.localhost")
    router.remove("a.localhost")
    assert router.routes() == {}
    assert router.target("a.localhost") is None
    assert not list((tmp_path / "routes").iterdir())
    assert not list((tmp_path / "sockets").iterdir())


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
        "a." * 40 + "localhost.at.a.long.domain",
    ],
)
def test_what_is_no_host_name_is_refused(router: Router, tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidField, match="host"):
        router.point(host, BLUE)
    with pytest.raises(InvalidField, match="host"):
        router.remove(host)
    assert router.target(host) is None
    assert not list((tmp_path / "routes").iterdir())


def test_host_that_leads_to_a_port_has_its_address_for_a_name(
    router: Router, tmp_path: Path
) -> None:
    router.point("a.localhost", BLUE)
    router.point("a.localhost", REMOTE)
    assert generation(tmp_path, "a.localhost") == "10.1.2.3:3000"  # which the proxy dials
    assert Router(tmp_path, "localhost").routes() == {"a.localhost": REMOTE}
    router.point("a.localhost", GREEN)
    assert dialled(tmp_path, "a.localhost") == GREEN


def test_longest_host_fits_into_sun_path(router: Router, tmp_path: Path) -> None:
    host = "a." * ((MAX_HOST_LENGTH - 1) // 2) + "b" * (2 - MAX_HOST_LENGTH % 2)
    assert len(host) == MAX_HOST_LENGTH
    router.point(host, BLUE)
    path = f"sockets/{host}/{generation(tmp_path, host)}"
    assert len(path.encode()) + 1 == 108  # unix(7), with the terminating zero


@pytest.mark.parametrize("base_domain", ["", "Example.com", "a/b", "..", "x." * 40 + "com"])
def test_unusable_base_domain_is_refused_at_construction(tmp_path: Path, base_domain: str) -> None:
    with pytest.raises(InvalidField, match="base_domain"):
        Router(tmp_path, base_domain)


def test_routes_survive_a_restart(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    before = generation(tmp_path, "a.localhost")
    assert Router(tmp_path, "localhost").routes() == {"a.localhost": BLUE}
    assert generation(tmp_path, "a.localhost") == before


def test_leftovers_of_a_crash_are_cleared_at_start(router: Router, tmp_path: Path) -> None:
    router.point("a.localhost", BLUE)
    (tmp_path / "sockets" / "a.localhost" / "0badc0de").symlink_to(
        "/run/x.sock"
    )  # died before the switch
    (tmp_path / "sockets" / "b.localhost").mkdir()
    (tmp_path / "sockets" / "b.localhost" / "0badc0de").symlink_to("/run/green.sock")
    (tmp_path / "routes" / "c.localhost").mkdir()  # died while removing
    assert Router(tmp_path, "localhost").routes() == {"a.localhost": BLUE}
    assert [path.name for path in (tmp_path / "routes").iterdir()] == ["a.localhost"]
    assert [path.name for path in (tmp_path / "sockets").iterdir()] == ["a.localhost"]
    assert len(list((tmp_path / "sockets" / "a.localhost").iterdir())) == 1


def test_directories_are_for_this_user_only(tmp_path: Path) -> None:
    Router(tmp_path / "run", "localhost").point("a.localhost", BLUE)
    for directory in ("run", "run/routes", "run/sockets", "run/routes/a.localhost"):
        assert (tmp_path / directory).stat().st_mode & 0o777 == 0o700
