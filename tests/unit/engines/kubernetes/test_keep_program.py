"""What an install has made is kept for later builds, and is no reason for a build to fail."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moorage.engines.images.beneath import Beneath, read
from moorage.engines.images.layer import LayerBounds, Place
from moorage.engines.kubernetes.building.pod import pack
from moorage.engines.kubernetes.building.pod.keep import keep
from moorage.engines.kubernetes.building.pod.program import FILES, INSTALLED, UNREACHABLE, Failed


class Gateway:
    """Takes what comes, unless it answers otherwise."""

    status = 204

    @contextmanager
    def connected(self, url: str) -> Iterator[tuple[Any, str]]:
        yield self, url

    def getresponse(self) -> Any:
        return SimpleNamespace(status=self.status, read=lambda _: b"")

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Gateway:
    made = Gateway()
    monkeypatch.setattr(pack, "connected", made.connected)
    return made


@pytest.fixture
def places(tmp_path: Path) -> list[Place]:
    """An upload, and what was installed beside it."""
    (tmp_path / "app/packages").mkdir(parents=True)
    (tmp_path / "app/packages/one").write_text("1" * 4096)
    (tmp_path / "app/page").write_text("mine")
    lists = tmp_path / FILES
    lists.parent.mkdir(parents=True)
    Beneath(dict.fromkeys(["app", "app/page"])).write(lists)
    return [Place(tmp_path / "app", "app")]


def test_topmost_names_of_what_was_installed_are_told(
    gateway: Gateway, places: list[Place], tmp_path: Path
) -> None:
    bounds = LayerBounds(max_bytes=1 << 20)
    assert json.loads(keep("/install", places, bounds, tmp_path)) == ["app/packages"]
    assert "app/packages/one" in read(tmp_path / INSTALLED)


def test_install_that_is_too_large_or_refused_is_not_kept_and_fails_no_build(
    gateway: Gateway, places: list[Place], tmp_path: Path
) -> None:
    """The build may remove what is too much; its last program packs all of it."""
    assert keep("/install", places, LayerBounds(max_bytes=4096), tmp_path) == ""
    (tmp_path / "app/packages/.wh.two").touch()
    assert keep("/install", places, LayerBounds(max_bytes=1 << 20), tmp_path) == ""
    assert not (tmp_path / INSTALLED).exists()


def test_gateway_that_is_not_there_ends_the_build(
    gateway: Gateway, places: list[Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    gateway.status = 503
    with pytest.raises(Failed) as failed:
        keep("/install", places, LayerBounds(max_bytes=1 << 20), tmp_path)
    assert failed.value.code == UNREACHABLE
