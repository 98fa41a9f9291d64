"""How BuildKit is called, by a Docker daemon or as a buildkitd."""

from dataclasses import replace
from pathlib import Path

from moorage.engines.dockerd import buildx
from moorage.engines.dockerd.buildx import Build, Output

BUILD = Build(
    dockerfile=Path("/run/x/Dockerfile"),
    context=Path("/source"),
    image="moorage-a:b.c",
    labels={"moorage.instance": "a"},
    cgroup_parent="/moorage-a/builds/d-0",
    cache_scope="feed",
    contexts={"tool-uv": "/bin"},
    arguments={"GREETING": "hello = $HOME"},
    secrets={"TOKEN": Path("/run/x/secrets/0")},
)
COMMON = [
    *("--network", "default", "--provenance", "false", "--ulimit", "core=1:1"),
    *("--build-arg", "BUILDKIT_SANDBOX_HOSTNAME=feed"),
    *("--build-arg", "BUILDKIT_CACHE_MOUNT_NS=feed"),
    *("--label", "moorage.instance=a", "--build-context", "tool-uv=/bin"),
    *("--build-arg", "GREETING=hello = $HOME", "--secret", "id=TOKEN,src=/run/x/secrets/0"),
]


def begun(builder: str) -> list[str]:
    words = ["docker", "buildx", "build", "--builder", builder, "--progress", "plain"]
    return [*words, "--file", "/run/x/Dockerfile"]


def test_daemon_builds_under_a_name_in_a_control_group() -> None:
    group = ["--cgroup-parent", "/moorage-a/builds/d-0"]
    expected = [*begun("default"), "--tag", "moorage-a:b.c", *group, *COMMON, "/source"]
    assert BUILD.argv == expected


def test_buildkitd_builds_and_then_pushes_what_it_built() -> None:
    remote = replace(BUILD, builder="moorage", cgroup_parent="", image="registry.example/a:b")
    built = replace(remote, output=Output.NONE, pulls=True)
    outcome = ["--output", "type=cacheonly"]
    assert built.argv == [*begun("moorage"), *outcome, *COMMON, "--pull", "/source"]
    pushed = ["--output", "type=image,name=registry.example/a:b,push=true,store=false"]
    assert replace(remote, output=Output.REGISTRY).argv == [
        *begun("moorage"), *pushed, *COMMON, "/source",
    ]  # fmt: skip


def test_buildkitd_gets_a_name_with_the_certificates_of_both_sides() -> None:
    made = ["docker", "buildx", "create", "--driver", "remote", "--name", "moorage"]
    assert buildx.create("moorage", "unix:///run/buildkitd", None) == [
        *made,
        "unix:///run/buildkitd",
    ]
    files = "cacert=/keys/ca.pem,cert=/keys/cert.pem,key=/keys/key.pem"
    address = "tcp://builder.example:1234"
    expected = [*made, "--driver-opt", files, address]
    assert buildx.create("moorage", address, Path("/keys")) == expected
