"""How BuildKit is called, what it prints, and the Dockerfiles that it gets."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from moorage.engines.dockerd import buildx
from moorage.engines.dockerd.attempt import Progress
from moorage.engines.dockerd.builder import Writing
from moorage.engines.dockerd.buildx import Build, Output
from moorage.engines.dockerd.dockerfile import generated, own, step_named
from moorage.engines.dockerd.leaving import unpack_files
from moorage.engines.images.base_images import (
    OF_THE_GATEWAY,
    BaseImages,
    main_program,
    toolbox_of_images,
)
from moorage.engines.images.recipe import Materials, recipe
from moorage.errors import DeployFailed, FailureCause, RuntimeUnsupported, UploadInvalid
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from support.engines.memory_tree import MemoryTree, app_text
from support.engines.toolboxes import EVERYTHING


def packed(directory: Path, *entries: tuple[str, bytes, bytes | str]) -> Path:
    """An archive; each entry has a name, a type, and its content or what it links to."""
    path = directory / "archive.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if isinstance(content, str):
                entry.linkname = content
                tar.addfile(entry)
            else:
                entry.size = len(content)
                entry.mode = 0o755 if content.startswith(b"#!") else 0o644
                tar.addfile(entry, io.BytesIO(content))
    return path


FILE, DIRECTORY, LINK, SECOND = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def files(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if not path.is_dir())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


def unpacked(tmp_path: Path, archive: Path, *, max_bytes: int = 1000) -> dict[str, bytes]:
    unpack_files(archive, tmp_path / "out", without={"node_modules"}, max_bytes=max_bytes)
    return files(tmp_path / "out")


def test_files_and_second_names_come_out_and_installed_directories_do_not(tmp_path: Path) -> None:
    archive = packed(
        tmp_path,
        ("app/", DIRECTORY, b""),
        ("app/run", FILE, b"#!/bin/sh"),
        ("app/a/node_modules/x.js", FILE, b"1"),
        ("app/node_modules", DIRECTORY, b""),
        ("app/a/b.txt", FILE, b"deep"),
        ("app/twice", SECOND, "app/a/b.txt"),
    )
    assert unpacked(tmp_path, archive) == {
        "run": b"#!/bin/sh",
        "a/b.txt": b"deep",
        "twice": b"deep",
    }
    assert (tmp_path / "out/run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/a/b.txt").stat().st_mode & 0o777 == 0o644


def test_nothing_leads_or_lies_outside(tmp_path: Path) -> None:
    archive = packed(
        tmp_path,
        ("app/link", LINK, "/etc"),
        ("app/link/passwd", FILE, b"through a link"),
        ("app/../../beside", FILE, b"outside"),
        ("app/theirs", SECOND, "etc/shadow"),
        ("app/pipe", tarfile.FIFOTYPE, b""),
        ("/app/whole", FILE, b"kept below"),
    )
    found = unpacked(tmp_path, archive)
    assert set(found) == {"link/passwd", "app/whole"}  # the link was made a directory of its own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive.tar", "out"]


def test_more_than_may_be_ends_it(tmp_path: Path) -> None:
    archive = packed(tmp_path, ("app/a", FILE, b"x" * 60), ("app/b", SECOND, "app/a"))
    with pytest.raises(DeployFailed) as failed:
        unpacked(tmp_path, archive, max_bytes=100)
    assert failed.value.cause is FailureCause.OUT_OF_DISK


def test_directories_nested_too_deeply_end_it(tmp_path: Path) -> None:
    archive = packed(tmp_path, ("app/" + "d/" * 100 + "file", FILE, b""))
    with pytest.raises(DeployFailed, match="nested too deeply"):
        unpacked(tmp_path, archive)


PRINTED = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 189B done
#1 DONE 0.0s

#2 [internal] load metadata for docker.io/library/node:22
#2 DONE 0.3s

#4 [made 1/3] FROM docker.io/library/node:22@sha256:00aa
#4 resolve docker.io/library/node:22@sha256:00aa done
#4 sha256:00aa 1.05MB / 48.49MB 0.2s
#4 extracting sha256:00aa 1.0s done
#4 DONE 2.0s

#5 [made 2/3] RUN npm ci
#5 CACHED

#6 [made 3/3] RUN npm run it
#6 0.385 one
#6 0.386 10%\r20%\r100%\r
#6 0.387 #7 ERROR: not an error, but output
#6 0.388
#6 ERROR: process "/bin/sh -c npm run it" did not complete successfully: exit code: 3
------
 > [made 3/3] RUN npm run it:
0.385 one
------
Dockerfile:3
--------------------
   3 | >>> RUN npm run it
--------------------
ERROR: failed to solve: process "/bin/sh -c npm run it" did not complete successfully: exit code: 3
"""


def test_log_has_steps_and_their_output_without_the_builders_noise() -> None:
    progress = Progress(lambda step: step)
    told = [line for printed in PRINTED.split("\n") for line in progress.read(printed)]
    assert told == [
        "FROM docker.io/library/node:22@sha256:00aa",
        "RUN npm ci",
        "(unchanged: kept)",
        "RUN npm run it",
        "one",
        "100%",
        "#7 ERROR: not an error, but output",
    ]
    assert (progress.failed_step, progress.exit_code) == ("RUN npm run it", 3)


def test_error_outside_of_steps_is_the_builders_own_word() -> None:
    progress = Progress(lambda step: step)
    progress.read("ERROR: failed to solve: failed to load LLB: network.host is not allowed")
    assert progress.error == "failed to load LLB: network.host is not allowed"
    assert (progress.failed_step, progress.exit_code) == ("", None)


def test_build_that_wrote_most_is_ended_and_the_others_wait_until_it_is_cleared_up() -> None:
    writing = Writing()
    with writing.of("small"):
        with writing.of("large"):
            writing.note("small", {1: 500})
            writing.note("large", {2: 400})
            assert (writing.is_most("small"), writing.is_most("large")) == (True, False)
            writing.note("large", {2: 450, 3: 100})
            assert (writing.is_most("small"), writing.is_most("large")) == (False, True)
            writing.note("large", {3: 120})  # the other process has ended
            assert not writing.is_most("small")
        assert writing.is_most("small")


def test_builds_of_which_nothing_was_seen_may_each_be_ended() -> None:
    writing = Writing()
    with writing.of("one"), writing.of("other"):
        assert writing.is_most("one")
        assert writing.is_most("other")


TESTS = Path(__file__).parents[2]
TOOLS = {name: Path(f"/gateway/bin/{name}") for name in ("caddy", "uv")}


def planned(case: str) -> tuple[Plan, set[str]]:
    """An app of the golden plans, as it is planned for images, and the names of its files."""
    head, files = app_text((TESTS / case / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    plan = make_plan(MemoryTree(files), settings, toolbox_of_images(EVERYTHING, Dockerfiles.BUILT))
    return plan, set(files)


def materials(plan: Plan, *, has_trust: bool = False, **bases: str) -> Materials:
    return Materials(
        bases=BaseImages(images=bases),
        tools=TOOLS,
        has_trust=has_trust,
    )


def test_base_image_is_the_operators() -> None:
    plan, files = planned("plans/fastapi")
    version = plan.host_tools["python"]
    bases = BaseImages(images={"python": "hub.example/mirror/py:{major}-{version}"})
    given = msgspec.structs.replace(plan)
    made = generated(given, Materials(bases=bases, tools=TOOLS), files).dockerfile
    assert made.splitlines()[0] == f"FROM hub.example/mirror/py:3-{version}"


@pytest.mark.parametrize("name", ["a$HOME.txt", "b*.txt", "[c].txt", "d e.txt", '"e".txt'])
def test_file_whose_name_is_a_pattern_is_copied_with_all_others(name: str) -> None:
    plan, _ = planned("plans/fastapi")
    copied = [
        line
        for line in generated(plan, materials(plan), [name]).dockerfile.splitlines()
        if line.startswith("COPY --chown")
    ]
    assert copied == ['COPY --chown=1000:1000 [".","/app/"]']


def test_steps_of_a_plan_are_told_from_the_others() -> None:
    plan, files = planned("plans/vite")
    lines = generated(plan, materials(plan, has_trust=True), files).dockerfile.splitlines()
    assert [named for line in lines if (named := step_named(line))] == ["install", "build"]
    assert [step_named(line) for line in lines if line.startswith("RUN ")] == ["install", "build"]


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("# syntax=evil.example/x\nFROM a\n", "#\nFROM a\n\n"),
        ("#syntax = evil/x\n# escape=`\n# syntax=evil/x\nFROM a", "# escape=`\n#\n#\nFROM a\n"),
        ("\ufeff# syntax=evil/x\nFROM a", "#\nFROM a\n"),
        ("\n# syntax=evil/x\nFROM a", "#\n#\nFROM a\n"),
        ("//syntax=evil/x\nFROM a", "#\n//syntax=evil/x\nFROM a\n"),
        ('{"syntax": "evil/x"}', '#\n{"syntax": "evil/x"}\n'),
        ("#!/usr/bin/x\n# syntax=evil/x\nFROM a", "#\n#\nFROM a\n"),
        ("# words\n# syntax=no directive\nFROM a", "#\n#\nFROM a\n"),
        # What Go's unicode.IsSpace takes for a space is one to the builder.
        *(
            (f"#{space}syntax=evil/x\nFROM a", "#\nFROM a\n")
            for space in "\v\f\x85\xa0\u2003\u3000"
        ),
        ("# escape=`\n#\xa0syntax=evil/x\nFROM a", "# escape=`\n#\nFROM a\n"),
    ],
)
def test_dockerfile_chooses_no_other_builder(text: str, made: str) -> None:
    assert own(text, "").dockerfile == made


def test_given_start_replaces_the_images_own() -> None:
    made = own("FROM a\nENTRYPOINT b", 'run "$PORT"').dockerfile
    assert made.endswith('\nENTRYPOINT []\nCMD ["/bin/sh","-c","run \\"$PORT\\""]\n')


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


WITHOUT_NPM = Toolbox(host={name: EVERYTHING.host[name] for name in OF_THE_GATEWAY})
"""What a machine has where nothing is but the gateway's own packages."""

APPS = sorted(path.parent for path in TESTS.glob("corpus/*/app.txt"))


@pytest.mark.parametrize("app", APPS, ids=[app.name for app in APPS])
def test_image_of_an_app_takes_nothing_from_the_gateways_machine(app: Path) -> None:
    """But for the two programs that come with the gateway, whatever the app is written in."""
    head, files = app_text((app / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    offered = toolbox_of_images(WITHOUT_NPM, Dockerfiles.BUILT)
    try:
        plan = make_plan(MemoryTree(files), settings, offered)
    except (RuntimeUnsupported, UploadInvalid):
        return
    parts = recipe(plan, Materials(bases=BaseImages(), tools=TOOLS))
    used = plan.host_tools.keys() | plan.toolchains.keys()
    brought = {main_program(plan), *parts.tools, *parts.others, *parts.managers}
    assert used - brought <= {"npm", "yarn", "bundler", "javac"}  # with the language's image


@pytest.mark.parametrize("case", ["node", "node-lock-out-of-step", "pnpm", "yarn-berry"])
def test_app_of_node_is_planned_where_the_gateway_has_no_npm(case: str) -> None:
    head, files = app_text((TESTS / "corpus" / case / "app.txt").read_text())
    settings = msgspec.json.decode(head or "{}", type=Settings)
    plan = make_plan(MemoryTree(files), settings, toolbox_of_images(WITHOUT_NPM, Dockerfiles.BUILT))
    assert plan.stack is Stack.NODE
    assert generated(plan, Materials(bases=BaseImages(), tools=TOOLS), files).contexts == {}
