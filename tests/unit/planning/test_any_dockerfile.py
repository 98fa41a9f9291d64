"""Dockerfiles for engines that build any: what is planned, and what is wrong for sure."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidField, InvalidRequest, RuntimeUnsupported
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from support.engines.memory_tree import MemoryTree

IMAGES = Toolbox(dockerfiles=Dockerfiles.BUILT)


def plan(dockerfile: str, *, where: str = "", **settings: Any) -> Plan:
    tree = MemoryTree({f"{where}Dockerfile": dockerfile})
    return make_plan(tree, Settings(has_dockerfile=True, **settings), IMAGES)


STAGES = """\
# syntax=docker/dockerfile:1.7-labs
ARG V=3.13
FROM --platform=linux/amd64 ghcr.io/astral-sh/uv:python$V AS build
SHELL ["/bin/bash", "-c"]
RUN --mount=type=cache,target=/root/.cache apt-get update && \\
    # words in between

    apt-get install -y curl
RUN <<EOF cat <<-"END"
FROM nowhere
EOF
\tNOT an instruction
\tEND
EXPOSE 9000
FROM build AS middle
EXPOSE 9001
FROM gcr.io/distroless/python3
ARG P=5000
EXPOSE $P/tcp 6000
COPY --from=build /app /app
CMD ["main.py"]
"""


def test_dockerfile_of_any_kind_becomes_an_image_that_starts_by_itself() -> None:
    made = plan(STAGES)
    assert (made.stack, made.directory, made.port) == (Stack.DOCKERFILE, "", 5000)
    assert (made.install, made.build, made.start) == (None, None, "")
    said = "ghcr.io/astral-sh/uv:python$V, gcr.io/distroless/python3"
    assert f"settings.hasDockerfile is true: an image is built from {said}" in made.because


def test_files_of_the_upload_are_added() -> None:
    assert plan("FROM a\nADD http/app.tar.gz git.txt /x/\nRUN curl https://example.com").port


def test_port_is_that_of_the_last_stage_or_of_the_one_it_begins_with() -> None:
    assert plan("FROM a AS b\nEXPOSE 81\nFROM b").port == 81
    assert plan("FROM a AS b\nEXPOSE 81\nFROM c", port=4000).port == 4000
    assert plan("FROM a\nEXPOSE 53/udp", port=4000).port == 4000
    assert plan("FROM a\nEXPOSE 70000", port=4000).port == 4000


def test_given_run_command_starts_the_image() -> None:
    made = plan("FROM a", where="web/", directory_path="web", run_command="./serve --all")
    assert (made.directory, made.start) == ("web", "./serve --all")


@pytest.mark.parametrize(
    ("dockerfile", "line", "why"),
    [
        ("FROM a\n\nRNU x", 3, "no instruction"),
        ("# words\nRUN x\nFROM a", 2, "FROM must come first"),
        ("ARG A=1", 1, "no FROM"),
        ("", 1, "no FROM"),
        ("FROM a\nRUN x \\\n  y\nhello", 4, "no instruction"),
        ("# escape=`\n# syntax=evil.example/frontend\nFROM a", 2, "docker/dockerfile:1"),
        ("# syntax=docker/dockerfile-upstream:master\nFROM a", 1, "docker/dockerfile:1"),
        ("FROM a\nRUN x\0", 2, "no text"),
        ("FROM a\nADD --chown=1 http://169.254.169.254/latest /x", 2, "ADD of an address"),
        ('FROM a\nadd ["git@example.com:a.git", "/x"]', 2, "ADD of an address"),
    ],
)
def test_what_is_wrong_for_sure_is_refused_with_its_line(
    dockerfile: str, line: int, why: str
) -> None:
    with pytest.raises(RuntimeUnsupported, match=why) as refused:
        plan(dockerfile)
    assert refused.value.field == "Dockerfile"
    assert f"line {line}," in refused.value.message


def test_missing_dockerfile_and_commands_beside_it_are_refused() -> None:
    with pytest.raises(RuntimeUnsupported, match="no Dockerfile in web"):
        make_plan(
            MemoryTree({"web/x": ""}), Settings(has_dockerfile=True, directory_path="web"), IMAGES
        )
    with pytest.raises(InvalidField, match=r"settings\.buildCommand"):
        plan("FROM a", build_command="make")


@given(st.lists(st.sampled_from(["FROM a", "RUN <<E", "E", "EXPOSE", "ARG", "\\", "`", "$", "x"])))
def test_every_text_is_planned_or_refused(parts: list[str]) -> None:
    for dockerfile in ("\n".join(parts), " ".join(parts)):
        with contextlib.suppress(InvalidRequest):
            assert plan(dockerfile).stack is Stack.DOCKERFILE


def planned_as(how: Dockerfiles, dockerfile: str) -> Plan:
    tree = MemoryTree({"Dockerfile": dockerfile})
    return make_plan(tree, Settings(has_dockerfile=True), Toolbox(dockerfiles=how))


@pytest.mark.parametrize(
    "dockerfile",
    [
        "FROM a\nUSER root",
        "FROM a\nUSER 0:0",
        "FROM a AS one\nUSER node\nUSER root\nFROM b\nUSER x\nFROM one",
    ],
)
def test_app_that_would_be_root_is_refused_where_none_may_be(dockerfile: str) -> None:
    with pytest.raises(RuntimeUnsupported, match="never root"):
        planned_as(Dockerfiles.ROOTLESS, dockerfile)
    assert planned_as(Dockerfiles.BUILT, dockerfile).stack is Stack.DOCKERFILE


@pytest.mark.parametrize(
    ("dockerfile", "said"),
    [
        ("FROM a\nUSER root\nRUN x\nUSER node", "the app runs as node"),
        ("FROM a AS one\nUSER root\nFROM b", "and as user 1000 if that is root"),
    ],
)
def test_whom_an_app_runs_as_is_told(dockerfile: str, said: str) -> None:
    assert said in " ".join(planned_as(Dockerfiles.ROOTLESS, dockerfile).because)
