"""Which installs are kept, and what can be laid over one."""

import pytest

from moorage.engines.kubernetes.building.registry.installs import (
    UNUSED_SECONDS,
    Kept,
    is_beside,
    superfluous,
)

NOW = 1_000_000


def kept(key: str, *, ago: int, size: int = 10) -> Kept:
    return Kept(key=key, made_at=NOW - ago, size_bytes=size)


def removed(*installs: Kept, used: str = "", max_bytes: int = 100) -> list[str]:
    return superfluous(installs, used.split(), now=NOW, max_bytes=max_bytes)


def test_install_that_a_release_was_built_on_stays_however_old_and_large_it_is() -> None:
    assert removed(kept("a", ago=10 * UNUSED_SECONDS, size=1000), used="a") == []


def test_unused_install_stays_for_the_next_try_and_then_goes() -> None:
    assert removed(kept("a", ago=UNUSED_SECONDS), kept("b", ago=UNUSED_SECONDS + 1)) == ["b"]


def test_of_too_many_unused_installs_the_newest_stay() -> None:
    installs = [kept("old", ago=3), kept("used", ago=2, size=1000), kept("new", ago=1)]
    assert removed(*installs, used="used", max_bytes=19) == ["old"]
    assert removed(*installs, used="used", max_bytes=0) == ["new", "old"]


@pytest.mark.parametrize(
    ("file", "is_so"),
    [
        ("app/index.js", True),
        ("app/node_modules.md", True),
        ("app/web/node_modules", True),
        ("app/node_modules/left-pad/index.js", False),
        ("app/node_modules", False),
        ("app/generated", False),
    ],
)
def test_upload_with_a_place_of_what_was_installed_is_not_laid_over_it(
    file: str, *, is_so: bool
) -> None:
    roots = ["app/node_modules", "app/generated/client.js", "home/app/.npm"]
    assert is_beside(roots, ["app/package.json", file]) == is_so
