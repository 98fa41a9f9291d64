"""The static server's command, run with the real Caddy."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moorage.planning.static import serve

FILES = {
    "index.html": "home",
    "about.html": "about",
    "404.html": "nothing here",
    "docs/index.html": "docs",
    ".env": "secret",
    ".git/config": "secret",
    "docs/.htpasswd": "secret",
    ".well-known/security.txt": "contact",
    "café/ü.txt": "umlaut",
}
PATIENCE_SECONDS = 60
ROOT = "the site's {$HOME} `x`"

Get = Callable[[str], tuple[int, str]]


@contextmanager
def served(directory: Path, *, fallback: bool, base: str = "") -> Iterator[Get]:
    for name, text in FILES.items():
        path = directory / ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with _free_port() as port:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(port),
            "HOME": "/nonexistent",
        }
        server = subprocess.Popen(
            ["sh", "-c", serve(ROOT, fallback=fallback, base=base)], cwd=directory, env=environment
        )
        try:
            _wait_until_it_listens(server, port)
            yield lambda path: _get(port, path)
        finally:
            server.terminate()
            assert server.wait(PATIENCE_SECONDS) == 0
    written = {str(p.relative_to(directory / ROOT)) for p in directory.rglob("*") if p.is_file()}
    assert written == set(FILES)


@contextmanager
def _free_port() -> Iterator[int]:
    """A port that nobody else is given meanwhile, and that Caddy shares, as it does with itself."""
    with socket.socket() as placeholder:
        placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        placeholder.bind(("0.0.0.0", 0))
        yield placeholder.getsockname()[1]


def _wait_until_it_listens(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("Caddy does not listen")


def _get(port: int, path: str) -> tuple[int, str]:
    """The status, and the page, or where a redirect leads."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", path)
    response = connection.getresponse()
    place, page = response.getheader("Location", ""), response.read().decode()
    answer = response.status, place or page
    connection.close()
    return answer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Get]:
    with served(tmp_path_factory.mktemp("site"), fallback=False) as get:
        yield get


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Get]:
    with served(tmp_path_factory.mktemp("app"), fallback=True) as get:
        yield get


def test_files_are_served_by_their_names(site: Get) -> None:
    assert site("/") == (200, "home")
    assert site("/docs/") == (200, "docs")
    assert site("/about") == (200, "about")
    assert site("/caf%C3%A9/%C3%BC.txt") == (200, "umlaut")
    assert site("/.well-known/security.txt") == (200, "contact")
    assert site("/docs")[0] == 308


def test_site_that_is_built_for_a_path_has_its_files_there(tmp_path: Path) -> None:
    with served(tmp_path, fallback=True, base="/ab") as get:
        assert get("/") == get("/ab") == (302, "/ab/")
        assert get("/ab/") == (200, "home")
        assert get("/ab/about") == get("/about") == (200, "about")
        assert get("/ab/orders/7") == (200, "home")
        assert get("/ab/.env") == (404, "nothing here")


def test_unknown_path_answers_the_sites_own_404(site: Get) -> None:
    assert site("/nothing") == (404, "nothing here")


def test_unknown_path_of_a_browser_app_answers_its_index(app: Get) -> None:
    assert app("/orders/7") == (200, "home")
    assert app("/about") == (200, "about")
    assert app("/docs") == (200, "docs")


@pytest.mark.parametrize(
    "path",
    [
        "/.env",
        "/%2eenv",
        "//.env",
        "/./.env",
        "/docs/../.env",
        "/docs/..%2f.env",
        "/.well-known/../.env",
        "/.well-known/..%2f.env",
        "/.well-known/%2e%2e/.env",
        "/.git/config",
        "/docs/.htpasswd",
        "/docs//.htpasswd",
        "/.git/",
    ],
)
def test_dotfiles_are_never_served(site: Get, app: Get, path: str) -> None:
    status, body = site(path)
    assert (status, "secret" in body) == (404, False)
    status, body = app(path)
    assert (status, body) in {(404, "nothing here"), (200, "home")}
