"""How Docker's builder is called."""

from pathlib import Path

from moorage.engines.dockerd.buildx import Build


def build(*, pulls: bool) -> list[str]:
    return Build(
        dockerfile=Path("/run/x/Dockerfile"),
        context=Path("/source"),
        tag="moorage-a:b.c",
        labels={"moorage.instance": "a"},
        cgroup_parent="/moorage-a/builds/d-0",
        cache_scope="feed",
        contexts={"tool-uv": Path("/bin")},
        arguments={"GREETING": "hello = $HOME"},
        secrets={"TOKEN": Path("/run/x/secrets/0")},
        pulls=pulls,
    ).argv


def test_builder_is_told_of_limits_cache_arguments_and_files_of_secrets() -> None:
    words = "\0".join(build(pulls=False))
    for said in (
        "--cgroup-parent\0/moorage-a/builds/d-0",
        "--network\0default",
        "--build-arg\0BUILDKIT_SANDBOX_HOSTNAME=feed",
        "--build-arg\0BUILDKIT_CACHE_MOUNT_NS=feed",
        "--build-arg\0GREETING=hello = $HOME",
        "--secret\0id=TOKEN,src=/run/x/secrets/0",
        "--build-context\0tool-uv=/bin",
        "--file\0/run/x/Dockerfile",
        "--tag\0moorage-a:b.c",
    ):
        assert said in words
    assert words.endswith("\0/source")


def test_images_of_this_machine_are_not_used_where_all_are_pulled() -> None:
    assert "--pull" in build(pulls=True)
    assert "--pull" not in build(pulls=False)


def test_daemon_on_another_machine_chooses_the_group_itself() -> None:
    elsewhere = Build(
        dockerfile=Path("/x"), context=Path("/y"), tag="t", labels={}, cgroup_parent="",
        cache_scope="feed",
    )  # fmt: skip
    assert "--cgroup-parent" not in elsewhere.argv
