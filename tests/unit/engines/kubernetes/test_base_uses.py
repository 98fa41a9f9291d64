"""Which base images are removed from a registry."""

from moorage.engines.kubernetes.building.registry.base_uses import BaseUse, superfluous

DAY, HOUR = 86_400, 3_600
NOW = 1_800_000_000


def use(name: str, *, age: int, size: int = 10, digest: str = "") -> BaseUse:
    digest = digest or f"sha256:{name}"
    return BaseUse(tag=name, name=name, digest=digest, size_bytes=size, used_at=NOW - age)


def removed(*uses: BaseUse, max_bytes: int = 1000) -> set[str]:
    found = superfluous(uses, now=NOW, max_seconds=30 * DAY, max_bytes=max_bytes)
    return {digest.removeprefix("sha256:") for digest in found}


def test_images_go_that_no_build_has_used_for_long() -> None:
    assert removed(use("old", age=31 * DAY), use("young", age=29 * DAY)) == {"old"}
    assert removed() == set()


def test_beyond_the_size_those_go_first_that_were_used_the_longest_ago() -> None:
    uses = [use("b", age=2 * DAY), use("a", age=3 * DAY), use("c", age=1 * DAY)]
    assert removed(*uses, max_bytes=30) == set()
    assert removed(*uses, max_bytes=29) == {"a"}
    assert removed(*uses, max_bytes=10) == {"a", "b"}


def test_what_a_build_may_be_running_on_stays_whatever_its_size() -> None:
    assert removed(use("a", age=HOUR), use("b", age=2), max_bytes=0) == set()


def test_image_that_has_two_names_stays_as_long_as_one_is_in_use() -> None:
    uses = [use("a", age=40 * DAY, digest="sha256:x"), use("b", age=1, digest="sha256:x")]
    assert removed(*uses, max_bytes=0) == set()


def test_image_of_two_names_counts_once() -> None:
    uses = [use(name, age=DAY, digest="sha256:x") for name in "ab"]
    assert removed(*uses, max_bytes=10) == set()
