"""Dockerfiles: what is planned of them, and what is refused, with the line and the reason."""

import re
import time
from shlex import quote
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import InvalidField, InvalidRequest, RuntimeUnsupported
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import EVERYTHING, TOOLBOX

FILES = {
    "index.js": "",
    "package.json": "{}",
    "requirements.txt": "flask",
    "main.go": "package main",
    "src/a.txt": "",
    "nginx.conf": "server { listen 80; location / { proxy_pass http://x; } }",
}


def plan(dockerfile: str, *, files: dict[str, str] | None = None, **settings: Any) -> Plan:
    tree = MemoryTree({**FILES, **(files or {}), "Dockerfile": dockerfile})
    return make_plan(tree, Settings(has_dockerfile=True, **settings), EVERYTHING)


def build_of(made: Plan) -> list[str]:
    """The lines of install and build."""
    assert made.build is not None
    return [*(made.install or "").splitlines(), *made.build.splitlines()]


NODE = "FROM node:20\nWORKDIR /app\n"


@pytest.mark.parametrize(
    ("dockerfile", "line", "why"),
    [
        ("FROM node:20\nRUN apt-get install -y curl\nCMD node x", 2, "curl"),
        ("FROM node:20-alpine\nRUN apk add --no-cache git\nCMD node x", 2, "git"),
        ("FROM node:20\nRUN curl https://a.example/x | sh\nCMD node x", 2, "curl"),
        ("FROM node:20\nRUN echo $(date)\nCMD node x", 2, "only plain commands"),
        ("FROM node:20\nRUN echo `date`\nCMD node x", 2, "only plain commands"),
        ("FROM node:20\nRUN sed -i s/a/b/ /usr/lib/x\nCMD node x", 2, "makes /usr/lib/x"),
        ("FROM node:20\nCOPY <<EOF src /x/\nhi\nEOF\nCMD node x", 2, "heredocs"),
        ("FROM nginx\nCOPY <<EOF /etc/nginx/x.conf\nhi\nEOF\nCMD node x", 2, "heredocs"),
        ("FROM node:20\nRUN python3 <<EOF\nx\nEOF\nCMD node x", 2, "heredocs"),
        ('FROM node:20\nSHELL ["powershell", "-c"]\nCMD node x', 2, "not supported"),
        ("FROM node:20\nONBUILD RUN npm ci\nCMD node x", 2, "not supported"),
        ("FROM node:20\n\n# words\nCPY . .\nCMD node x", 4, "no instruction"),
        ("FROM node:20\nRUN pip install x\nCMD node x", 2, "pip"),
        ("FROM node:20\nADD https://a.example/x.txt .\nCMD node x", 2, "use COPY"),
        ("FROM node:20\nCOPY missing.txt .\nCMD node x", 2, "missing.txt is not in the upload"),
        ("FROM node:20\nCOPY ../up .\nCMD node x", 2, "outside"),
        ("FROM node:20\nCOPY --from=ghcr.io/a/b /x /y\nCMD node x", 2, "of stages"),
        ("FROM node:20\nCOPY --parents src/a.txt /x/\nCMD node x", 2, "--parents"),
        ("FROM node:20\nRUN --mount=type=secret,id=k npm ci\nCMD node x", 2, "secret"),
        ("FROM node:20\nCOPY . .\nCMD node index.js", 2, "WORKDIR"),
        ("FROM node:20\nEXPOSE http\nCMD node x", 2, "no port"),
        ("FROM node:20\nEXPOSE 000001" + "0" * 5_000 + "\nCMD node x", 2, "no port"),
        (f'{NODE}CMD ["node", "\\ud800"]', 3, "surrogate"),
        (f'{NODE}VOLUME ["\\udfff"]\nCMD node x', 3, "surrogate"),
        ('FROM node:20\nCMD ["/server"]', 2, "nothing in this Dockerfile makes /server"),
        ("FROM node:20\nCMD supervisord", 2, "supervisord"),
        ("FROM ubuntu:24.04\nWORKDIR /a\nCMD node index.js", 3, "node"),
        ("FROM ghcr.io/a/node:20\nCMD node x", 1, "only plain images"),
        ("FROM postgres:17\nCMD postgres", 1, "only plain images"),
        ("FROM php:8.4-fpm", 1, "FPM"),
        ("RUN npm ci\nFROM node:20", 1, "FROM must come first"),
        ("FROM node:20 AS", 1, "FROM image AS name"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_its_line(
    dockerfile: str, line: int, why: str
) -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        plan(dockerfile)
    assert refused.value.message.startswith(f"Dockerfile: line {line}, ")
    assert why in refused.value.message


@pytest.mark.parametrize(
    ("dockerfile", "why"),
    [
        ("FROM node:20\nWORKDIR /app\nCOPY . .", "no CMD"),
        ("# nothing", "no FROM"),
        (
            "FROM node:18 AS a\nRUN npm -v\nFROM node:20\nCOPY --from=a /x /x\nCMD node x",
            "two versions",
        ),
        ("FROM nginx\nCOPY nginx.conf /etc/nginx/conf.d/default.conf", "proxy_pass"),
        ("FROM caddy\nCOPY nginx.conf /etc/caddy/Caddyfile", "only sites of files"),
    ],
)
def test_what_the_whole_file_lacks_is_refused(dockerfile: str, why: str) -> None:
    with pytest.raises(RuntimeUnsupported, match=why):
        plan(dockerfile)


@pytest.mark.parametrize(
    "image", ["ruby:3.3", "php:8.4-cli", "golang:1.24", "node:12", "python:3.8"]
)
def test_language_that_the_machine_lacks_is_refused(image: str) -> None:
    tree = MemoryTree({**FILES, "Dockerfile": f"FROM {image}\nWORKDIR /app\nCMD ./x"})
    with pytest.raises(RuntimeUnsupported) as refused:
        make_plan(tree, Settings(has_dockerfile=True), TOOLBOX)
    assert refused.value.field == "Dockerfile line 1"


@pytest.mark.parametrize(
    ("image", "tool", "version"),
    [
        ("node:20.11.1-alpine", "node", "20.11.1"),
        ("node:20.11.0", "node", "20.20.2"),
        ("library/node:lts-alpine3.20", "node", "20.20.2"),
        ("node:22@sha256:" + "0" * 64, "node", "22.23.3"),
        ("oven/bun:1.2-alpine", "bun", "1.2.23"),
        ("denoland/deno:alpine-2.1.4", "deno", "2.9.6"),
        ("python:3.11-slim-bookworm", "python", "3.11.2"),
        ("golang:1.22", "go", "1.24.4"),
        ("rust:1-slim", "rust", "1.95.0"),
        ("php:8.2-cli", "php", "8.4.16"),
        ("ruby:3.3-slim", "ruby", "3.3.8"),
    ],
)
def test_image_becomes_the_machines_program(image: str, tool: str, version: str) -> None:
    made = plan(f"FROM {image}\nWORKDIR /app\nCOPY . .\nCMD ./x")
    assert {**made.toolchains, **made.host_tools}[tool] == version


def test_missing_dockerfile_is_said() -> None:
    with pytest.raises(RuntimeUnsupported) as refused:
        make_plan(MemoryTree(FILES), Settings(has_dockerfile=True), TOOLBOX)
    assert refused.value.field == "settings.hasDockerfile"


def test_dockerfile_that_was_not_asked_for_is_not_followed() -> None:
    files = {**FILES, "index.js": "", "Dockerfile": "FROM postgres"}
    made = make_plan(MemoryTree(files), Settings(runtime="node"), TOOLBOX)
    assert made.start == "exec node index.js"


@pytest.mark.parametrize("setting", ["build_command", "install_command"])
def test_commands_that_contradict_the_dockerfile_are_refused(setting: str) -> None:
    settings: dict[str, Any] = {setting: "npm run other"}
    with pytest.raises(InvalidField):
        plan(f"{NODE}CMD node x", **settings)


def test_run_command_takes_the_place_of_cmd() -> None:
    made = plan(f"{NODE}COPY . .\nCMD node x", run_command="node index.js")
    assert made.start == "exec node index.js"
    assert any("settings.runCommand" in sentence for sentence in made.because)


@pytest.mark.parametrize(
    ("start", "command"),
    [
        ('CMD ["node", "index.js"]', "exec node index.js"),
        ('CMD ["index.js"]', "exec node index.js"),
        ("CMD node index.js", "exec node index.js"),
        ('ENTRYPOINT ["node"]\nCMD ["index.js", "a b"]', "exec node index.js 'a b'"),
        ('ENTRYPOINT ["docker-entrypoint.sh"]\nCMD ["node", "x.js"]', "exec node x.js"),
        ('ENTRYPOINT ["/sbin/tini", "--"]\nCMD ["node", "x.js"]', "exec node x.js"),
        ('ENTRYPOINT ["dumb-init", "node", "x.js"]', "exec node x.js"),
        ('CMD ["node", "$HOME"]', "exec node '$HOME'"),
        ("CMD node a.js\nENTRYPOINT node b.js", "exec node b.js"),
        ('CMD ["/usr/local/bin/node", "/app/x.js"]', "exec node /app/x.js"),
        ("CMD [not json", None),
    ],
)
def test_start_is_that_of_the_image(start: str, command: str | None) -> None:
    dockerfile = f"{NODE}COPY . .\n{start}"
    if command is None:
        with pytest.raises(InvalidRequest):
            plan(dockerfile)
    else:
        assert plan(dockerfile).start == command


@pytest.mark.parametrize(
    ("lines", "port", "start"),
    [
        ("EXPOSE 8080", 8080, "exec node x"),
        ("EXPOSE 8080/tcp 9090", 8080, "exec node x"),
        ("ARG P=5000\nEXPOSE $P", 5000, "exec node x"),
        ("ENV PORT=7000", 7000, "exec node x"),
        ("EXPOSE 80", 80, "exec node x"),
        ("EXPOSE 53/udp", 3000, "exec node x"),
    ],
)
def test_exposed_port_is_the_apps(lines: str, port: int, start: str) -> None:
    made = plan(f"{NODE}{lines}\nCMD node x")
    assert (made.port, made.start) == (port, start)
    assert "PORT" not in made.run_env


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("python:3.12-slim", "3.13.5"),
        ("python:3.10", "3.11.2"),
        ("python:3.9.19-alpine", "3.11.2"),
        ("ghcr.io/astral-sh/uv:python3.12-bookworm-slim", "3.13.5"),
        ("ghcr.io/astral-sh/uv:0.8.4-python3.11-alpine", "3.11.2"),
    ],
)
def test_python_of_a_near_minor_takes_the_place_of_one_that_is_not_here(
    image: str, version: str
) -> None:
    run = "RUN uv sync --frozen\n" if "uv:" in image else ""
    made = plan(f"FROM {image}\nWORKDIR /a\nCOPY . .\n{run}CMD python x.py")
    assert made.host_tools["python"] == version
    assert any(f"in place of {image}: python {version}" in said for said in made.because)
    assert f"export UV_PYTHON=python{version.rpartition('.')[0]}" in build_of(made)


def test_empty_entrypoint_takes_away_what_was_before() -> None:
    inherited = 'FROM node:20 AS a\nENTRYPOINT ["tini"]\nCMD x\nFROM a\nWORKDIR /b\n'
    assert plan(f'{inherited}ENTRYPOINT []\nCMD ["node", "y"]').start == "exec node y"
    with pytest.raises(RuntimeUnsupported, match="no CMD"):
        plan(f"{inherited}ENTRYPOINT []")
    with pytest.raises(RuntimeUnsupported, match="no argument"):
        plan(f"{inherited}RUN []\nCMD x")


def test_directory_above_the_apps_belongs_to_it_if_a_run_uses_it() -> None:
    """Editors' templates move node_modules there."""
    moved = "RUN npm install && mv node_modules ../\nCOPY . .\n"
    made = plan(
        f"FROM node:20\nWORKDIR /usr/src/app\nCOPY package.json .\n{moved}CMD node index.js"
    )
    assert made.start == "cd /app/app && exec node index.js"
    assert "mkdir -p /app/app && cd /app/app" in build_of(made)
    top = plan(f"{NODE}COPY package.json .\n{moved}CMD node index.js")
    assert top.start == "exec node index.js"


def test_low_port_stays_what_the_dockerfile_says() -> None:
    made = plan(
        "FROM python:3.13\nEXPOSE 80\nWORKDIR /a\nCMD gunicorn -b 0.0.0.0:80 --backlog 80 a:b"
    )
    assert (made.port, made.start) == (80, "exec gunicorn -b 0.0.0.0:80 --backlog 80 a:b")


def test_escape_directive_and_continuations_are_read() -> None:
    made = plan("# escape=`\nFROM node:20\nWORKDIR /app\nCMD node `\n  # no\n\n  index.js")
    assert made.start == "exec node index.js"


def test_variables_are_replaced_as_docker_does() -> None:
    made = plan(
        "ARG TAG=18\nFROM node:${TAG:-20}\nARG TAG\nARG A=x\n"
        "ENV B=${A}-${NONE:-d}${A:+p} C='$A' D=\"$TAG\" E=\\$A\nENV F one two\n"
        "WORKDIR /srv/$A\nCMD node x"
    )
    assert made.toolchains["node"] == "18.20.8"
    assert made.run_env == {"B": "x-dp", "C": "$A", "D": "18", "E": "$A", "F": "one two"}


def test_users_owners_and_lists_of_packages_need_no_doing() -> None:
    made = plan(
        f"{NODE}RUN useradd -m app && chown -R app /app\nUSER app\n"
        "RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates tini\n"
        "RUN corepack enable && npm config set fund false\nCMD node x"
    )
    assert not any(line.startswith("sh -c") for line in build_of(made))


def test_pip_installs_into_one_environment_by_uv() -> None:
    made = plan(
        "FROM python:3.13\nWORKDIR /app\nCOPY requirements.txt .\n"
        "RUN python -m pip install --user --no-cache-dir --upgrade pip 'gunicorn>=20'\n"
        "RUN pip3 install --prefix=/install -r requirements.txt\nCMD gunicorn a:b"
    )
    assert "sh -c 'uv pip install -q --upgrade '\"'\"'gunicorn>=20'\"'\"''" in build_of(made)
    assert "sh -c 'uv pip install -q -r requirements.txt'" in build_of(made)


def test_programs_of_a_stage_are_where_the_next_looks_for_them() -> None:
    made = plan(
        "FROM golang:1.24 AS build\nWORKDIR /src\nCOPY . .\n"
        "RUN CGO_ENABLED=0 go build -o /out/server ./main.go\n"
        "FROM gcr.io/distroless/static-debian12\nCOPY --from=build /out/server /bin/server\n"
        'USER 1000\nENTRYPOINT ["/bin/server", "--api", "/api"]'
    )
    assert made.stack is Stack.GO
    assert "mkdir -p /app/.dockerfile/0/out" in build_of(made)
    assert "sh -c 'CGO_ENABLED=0 go build -o /app/.dockerfile/0/out/server ./main.go'" in build_of(
        made
    )
    assert "put /app/.image/bin/server /app/.dockerfile/0/out/server" in build_of(made)
    assert made.start == "cd /app/.image && exec /app/.image/bin/server --api /api"


BUILT = "FROM golang:1.24 AS b\nRUN go build -o /out/app .\n"


@pytest.mark.parametrize(
    ("made_by", "start"),
    [
        ("FROM golang:1.24\nWORKDIR /usr/src/app\nRUN go build -v -o /usr/local/bin/app ./...",
         "exec /app/.image/usr/local/bin/app"),
        (f"{BUILT}FROM debian:bookworm-slim\nWORKDIR /srv\nCOPY --from=b /out/app /usr/local/bin/",
         "exec /app/.image/usr/local/bin/app"),
        ("FROM rust:1.95\nWORKDIR /usr/src/app\nRUN cargo install --path .",
         "export PATH=/app/.image/usr/local/bin:\"$PATH\"\ncd /app && exec app"),
    ],
)  # fmt: skip
def test_program_that_the_dockerfile_makes_is_started_by_its_name(made_by: str, start: str) -> None:
    assert plan(f'{made_by}\nCMD ["app"]').start == start


def test_cargos_programs_are_where_its_image_has_them() -> None:
    made = plan(
        "FROM rust:1.95 AS build\nWORKDIR /src\nCOPY . .\nRUN cargo install --path .\n"
        "FROM debian:bookworm-slim\nCOPY --from=build /usr/local/cargo/bin/app /usr/local/bin/app\n"
        'CMD ["app"]'
    )
    local = "/app/.dockerfile/0/usr/local"
    assert (
        f"sh -c 'cargo install --path . --root {local} && mkdir -p {local}/cargo && "
        f"ln -sfn ../bin {local}/cargo/bin'"
    ) in build_of(made)
    assert f"put /app/.image/usr/local/bin/app {local}/cargo/bin/app" in build_of(made)
    assert made.start.endswith("exec /app/.image/usr/local/bin/app")


def test_only_stages_that_the_last_needs_are_made() -> None:
    made = plan(f"FROM postgres:17 AS db\nFROM node:20 AS tests\nRUN curl x\n{NODE}CMD node x"
                .replace("FROM postgres:17 AS db\n", ""))  # fmt: skip
    assert not any("curl" in line for line in build_of(made))


def test_npms_global_programs_are_on_the_path() -> None:
    made = plan(f"{NODE}RUN npm install -g serve@14 pnpm@9\nCMD serve -s .")
    assert "sh -c 'npm install --global --prefix /app/.image/usr/local serve@14'" in build_of(made)
    assert made.start == 'export PATH=/app/.image/usr/local/bin:"$PATH"\ncd /app && exec serve -s .'
    assert made.toolchains["pnpm"].startswith("9.")


NEXT = (
    "FROM node:20 AS base\n"
    "FROM base AS deps\nWORKDIR /app\nCOPY package*.json prisma ./\nRUN npm ci\n"
    "FROM base AS build\nWORKDIR /app\nCOPY --from=deps /app/node_modules node_modules\nCOPY . .\n"
    "RUN npm run build\nFROM base\nWORKDIR /app\nCOPY package.json ./\nRUN npm ci --omit=dev\n"
    "COPY --from=build /app/dist dist\nRUN npm run after\nCMD node dist"
)
LISTED = "FROM node:20 AS a\nWORKDIR /a\nCOPY . .\nRUN npm run list\n"
MOUNTED = "RUN --mount=type=bind,source=package.json,target=package.json"
NPM = "COPY package.json ./\nRUN npm ci\n"


@pytest.mark.parametrize(
    ("dockerfile", "inputs", "installed"),
    [
        (NEXT, ("package.json", "prisma/x.prisma"), ["ci", "ci --omit=dev"]),
        (f"{NODE}{NPM}COPY . .\nRUN npm run build\nCMD node x", ("package.json",), ["ci"]),
        (f"{NODE}{NPM}COPY index.js .\nRUN npm i\nCMD node x", ("package.json",), ["ci"]),
        (f"{NODE}RUN npm i -g serve\nCMD node x", ("Dockerfile",), ["install"]),
        (f"{NODE}{MOUNTED} npm ci\nCOPY . .\nCMD node x", ("package.json",), ["ci"]),
        (f"{NODE}COPY . .\nRUN npm ci\nCMD node x", (), None),
        (f"{NODE}COPY package.json index.js ./\nRUN npm ci\nCMD node x", (), None),
        (f"{NODE}COPY src src\nRUN npm ci\nCMD node x", (), None),  # one of its files is ignored
        (f"{NODE}COPY many many\nRUN npm ci\nCMD node x", (), None),
        (f"{NODE}COPY package.json .\nCMD node x", (), None),
        (f"{LISTED}{NODE}COPY --from=a /a/list.json .\nRUN npm ci\nCMD node x", (), None),
        (f"FROM node:20 AS a\nWORKDIR /a\nCOPY . .\nFROM a\n{NPM}CMD node x", (), None),
    ],
)  # fmt: skip
def test_install_is_what_reads_lists_of_packages_alone(
    dockerfile: str, inputs: tuple[str, ...], installed: list[str] | None
) -> None:
    files = {"prisma/x.prisma": "", ".dockerignore": "src/b.txt", "src/b.txt": ""}
    made = plan(dockerfile, files={**files, **{f"many/{n}.json": "" for n in range(101)}})
    assert made.install_inputs == inputs
    ran = re.findall(r"^sh -c 'npm ([^/']*?)(?: --global .*)?'$", made.install or "", re.MULTILINE)
    assert (ran if made.install else None) == installed


def test_lists_of_an_app_in_a_directory_are_named_from_the_root() -> None:
    files = {"a/Dockerfile": f"{NODE}{NPM}CMD node x", "a/package.json": "{}"}
    made = make_plan(
        MemoryTree(files), Settings(has_dockerfile=True, directory_path="a"), EVERYTHING
    )
    assert made.install_inputs == ("a/package.json",)


def test_upload_with_the_builds_own_directory_is_refused() -> None:
    with pytest.raises(RuntimeUnsupported, match="rename it"):
        plan(f"{NODE}CMD node x", files={".dockerfile/context/x": ""})


@pytest.mark.parametrize("reader", ["FROM a\\\n" * 30_000, "X" * 70_000, "FROM node\n" * 300])
def test_large_dockerfiles_are_refused(reader: str) -> None:
    with pytest.raises(InvalidRequest):
        plan(reader)


@pytest.mark.parametrize(
    "lines",
    [
        "ENV A=xxxxxxxx\n" + "ENV A=$A$A\n" * 60,
        "ARG A=xxxxxxxx\n" + "ARG A=$A$A\n" * 60,
        "".join(f"ENV V{n}=x W{n}=x\n" for n in range(150)),
    ],
)
def test_variables_that_grow_without_bound_are_refused(lines: str) -> None:
    with pytest.raises(RuntimeUnsupported, match="variables"):
        plan(f"{NODE}{lines}\nCMD node x")


def test_ignored_directory_is_removed_whole() -> None:
    files = {f"node_modules/p{n}/index.js": "" for n in range(5000)}
    made = plan(f"{NODE}COPY . .\nCMD node x", files={**files, ".dockerignore": "**/node_modules"})
    assert "(cd /app/.dockerfile/context && rm -rf -- node_modules)" in build_of(made)


def test_pattern_that_names_very_many_files_is_refused() -> None:
    files = {f"d/{n}.txt": "" for n in range(600)}
    with pytest.raises(RuntimeUnsupported, match="more than 500"):
        plan(f"{NODE}COPY d/*.txt /app/\nCMD node x", files=files)


def test_ignored_files_are_removed_before_anything_is_copied() -> None:
    made = plan(
        f"{NODE}COPY . .\nCMD node x",
        files={
            ".dockerignore": "# no\n*\n!src\nsrc/*.log\n!index.js\n",
            "src/deep/er.log": "", "src/x.log": "", "lib/a/b.js": "", "lib/c.js": "",
        },
    )  # fmt: skip
    assert (
        "(cd /app/.dockerfile/context && rm -rf -- .dockerignore Dockerfile lib main.go "
        "nginx.conf package.json requirements.txt src/x.log)"
    ) in build_of(made)


NGINX = "FROM nginx\nCOPY src /usr/share/nginx/html\nCOPY nginx.conf /etc/nginx/conf.d/default.conf"


@pytest.mark.parametrize(
    ("configuration", "is_fallback"),
    [
        ("server { listen 80; root /usr/share/nginx/html; index index.html; }", False),
        ("server { location / { try_files $uri $uri/ /index.html; } } # x", True),
        ("server { location / { try_files $uri $uri.html =404; } }", False),
    ],
)
def test_nginx_site_of_files_is_served(configuration: str, is_fallback: bool) -> None:
    made = plan(NGINX, files={"nginx.conf": configuration})
    assert made.stack is Stack.STATIC
    assert ("/200.html" in made.start) == is_fallback


@pytest.mark.parametrize(
    "configuration",
    [
        "server { location /api { proxy_pass http://b; } }",
        "server { rewrite ^/a /b; }",
        "server { if ($x) { return 301 /y; } }",
        "server { root /a; location /b { root /c; } }",
        "server { try_files $uri @app; }",
        "upstream x { server a; }",
    ],
)
def test_nginx_that_does_more_than_serve_files_is_refused(configuration: str) -> None:
    with pytest.raises(RuntimeUnsupported, match=r"nginx\.conf"):
        plan(NGINX, files={"nginx.conf": configuration})


FRAGMENTS = (
    *(
        "FROM node:20",
        "FROM node AS a",
        "FROM a",
        "FROM python:3",
        "FROM nginx",
        "FROM scratch",
        "RUN ",
    ),
    *("npm ci", " && ", "; ", "if [ -f x ]", "then", "fi", "$(", "'", '"', "`", "${A:-", "}", "$A"),
    *(
        "COPY ",
        "--from=a ",
        "--from=0 ",
        ". ",
        "/app/ ",
        "*",
        "!",
        "..",
        "/",
        "WORKDIR ",
        "ENV ",
        "A=b",
    ),
    *(
        "CMD ",
        '["node", "x"]',
        "[]",
        "ENTRYPOINT ",
        "EXPOSE ",
        "99999999999",
        "\\\n",
        "# x",
        "ARG A=1",
    ),
    *("--mount=type=bind,source=x,target=y ", "\0", "é", "pip install -t", "npm i -g", "sh -c"),
)


@given(
    st.lists(st.sampled_from((*FRAGMENTS, "\n", "\n", "\n")), max_size=40).map("".join), st.text()
)
def test_any_dockerfile_is_planned_or_refused(dockerfile: str, ignored: str) -> None:
    files = {**FILES, ".dockerignore": ignored.encode("utf-8", "replace").decode()}
    for text in (dockerfile, f"FROM node:20\nWORKDIR /a\n{dockerfile}\nCMD node x"):
        try:
            made = plan(text, files=files)
        except InvalidRequest:
            continue
        assert "\0" not in f"{made.start}{made.build}"
        assert plan(text, files=files) == made


def test_braces_that_are_never_closed_take_linear_time() -> None:
    begun = time.thread_time()
    plan(f"{NODE}RUN echo {'${' * 30_000}\nCMD node x")
    assert time.thread_time() - begun < 1.0


@pytest.mark.parametrize(
    ("dockerfile", "line", "serves"),
    [
        ("FROM nginx\nCOPY a.html /usr/share/nginx/html", "put /app/ {}/a.html", "the app's files"),
        (
            "FROM nginx:alpine\nCOPY a.html b.css /usr/share/nginx/html",
            "put /app/ {0}/a.html {0}/b.css",
            "the app's files",
        ),
        (
            "FROM nginxinc/nginx-unprivileged\nCOPY a.html /usr/share/nginx/html",
            "put /app/ {}/a.html",
            "the app's files",
        ),
        (
            "FROM httpd:2.4\nCOPY a.html /usr/local/apache2/htdocs",
            "put /app/htdocs/ {}/a.html",
            "htdocs/",
        ),
        ("FROM httpd\nCOPY a.html htdocs", "put /app/htdocs/ {}/a.html", "htdocs/"),
        (
            "FROM caddy:2\nCOPY a.html /usr/share/caddy",
            "put /app/.image/usr/share/caddy/ {}/a.html",
            ".image/usr/share/caddy/",
        ),
        (
            'FROM caddy:2\nCOPY a.html /srv\nCMD ["caddy", "file-server"]',
            "put /app/ {}/a.html",
            "the app's files",
        ),
    ],
)
def test_file_copied_to_a_servers_root_is_put_into_it(
    dockerfile: str, line: str, serves: str
) -> None:
    made = plan(dockerfile, files={"a.html": "<p>", "b.css": ""})
    assert line.format("/app/.dockerfile/context") in build_of(made)
    assert said(made.start) == f"serves {serves} by Caddy"


def test_file_copied_to_a_directory_of_the_image_is_a_file_in_it() -> None:
    made = plan("FROM php:8.4-apache\nCOPY index.php /var/www/html", files={"index.php": "<?php"})
    assert "put /app/ /app/.dockerfile/context/index.php" in build_of(made)
    script = f'{NODE}COPY run.sh /usr/local/bin\nENTRYPOINT ["run.sh"]'
    assert "/app/.image/usr/local/bin/run.sh" in plan(script, files={"run.sh": ""}).start


@pytest.mark.parametrize(
    "lines",
    [
        "RUN rm /etc/nginx/conf.d/default.conf",
        "RUN rm -rf /etc/nginx/conf.d/* && rm -f /etc/nginx/nginx.conf",
        "RUN sed -i 's/80/8080/' /etc/nginx/conf.d/default.conf",
        "RUN sed -i '/^user/d' /etc/nginx/nginx.conf",
        "RUN mkdir -p /etc/nginx/templates && touch /etc/nginx/x.conf",
    ],
)
def test_changes_of_a_configuration_that_is_not_used_are_left_out(lines: str) -> None:
    made = plan(f"FROM nginx\n{lines}\nCOPY src /usr/share/nginx/html")
    assert not any("/etc/nginx" in line for line in build_of(made) if not line.startswith("echo"))


def test_configuration_copied_to_its_directory_is_read() -> None:
    site = {"app.conf": "server { location / { try_files $uri /index.html; } }"}
    made = plan("FROM nginx\nCOPY app.conf /etc/nginx/conf.d\nCOPY src .", files=site)
    assert "/200.html" in made.start


@pytest.mark.parametrize(
    "reference",
    [
        *("docker.io/node:20", "docker.io/library/node:20", "index.docker.io/library/node:20"),
        *("public.ecr.aws/docker/library/node:20-slim", "mirror.gcr.io/library/node:20"),
        "registry.hub.docker.com/library/node:20",
    ],
)
def test_official_image_is_known_by_all_its_names(reference: str) -> None:
    made = plan(f"FROM {reference}\nWORKDIR /app\nCOPY . .\nCMD node index.js")
    assert made.host_tools["node"] == "20.20.2"
    php = "FROM php:8.4-cli\nCOPY --from=docker.io/library/composer:2 /usr/bin/composer /bin/\n"
    assert plan(f"{php}WORKDIR /a\nCOPY . .\nCMD php x").host_tools["php"] == "8.4.16"


def test_heredoc_counts_only_where_it_is_followed() -> None:
    unused = "FROM node:20 AS tests\nCOPY <<EOF /x\nFROM no\nEOF\nRUN python3 <<X\nCPY\nX\n"
    made = plan(f"{unused}{NODE}COPY . .\nCMD node index.js")
    assert made.start == "exec node index.js"


def test_lines_of_a_heredoc_are_run() -> None:
    text = "RUN <<EOF\n# comment\nset -e\nnpm ci \\\n  --omit=dev\nmkdir /app/x\nEOF\n"
    lines = build_of(plan(f"{NODE}COPY . .\n{text}CMD node index.js"))
    assert "sh -c 'set -e \n npm ci --omit=dev \n mkdir /app/x'" in "\n".join(lines)


def test_heredoc_of_a_copy_is_the_files_text() -> None:
    text = "ENV A=b\nCOPY <<EOF /app/x.txt\nhi $A\nEOF\nCOPY <<'EOF' y\n$A\n\nEOF\n"
    lines = "\n".join(build_of(plan(f"{NODE}{text}CMD node index.js")))
    assert "printf %s 'hi b\n' > /app/x.txt" in lines
    assert "printf %s '$A\n\n' > /app/y" in lines


@pytest.mark.parametrize(
    "words", ['"/bin/bash", "-c"', '"/bin/sh","-c"', '"/bin/bash", "-o", "pipefail", "-c"']
)
def test_shell_that_runs_plain_commands_as_any_other_changes_nothing(words: str) -> None:
    made = plan(f"{NODE}SHELL [{words}]\nCOPY . .\nRUN npm ci\nCMD node index.js")
    assert made == plan(f"{NODE}\nCOPY . .\nRUN npm ci\nCMD node index.js")


def test_program_that_is_the_file_app_is_started() -> None:
    made = plan(
        "FROM golang:1.24 AS b\nWORKDIR /src\nCOPY . .\nRUN go build -o /app .\n"
        'FROM gcr.io/distroless/base\nCOPY --from=b /app /app\nCMD ["/app"]'
    )
    assert made.start == "cd /app/.image && exec /app/.image/app"
    assert "put /app/.image/app /app/.dockerfile/0/app" in build_of(made)


MACHINE = msgspec.structs.replace(EVERYTHING, programs=("curl", "git", "make", "gcc", "g++"))
CHECK = "HEALTHCHECK CMD curl -f http://localhost:3000/ || exit 1\n"


@pytest.mark.parametrize(
    ("run", "check"),
    [
        ("apk add --no-cache curl", CHECK),
        ("apt-get update && apt-get install -y wget", "HEALTHCHECK CMD wget x\n"),
        ("apk add tini su-exec", ""),
        ("apt-get install -y vim less locales", ""),
        ("apk add netcat-openbsd", 'HEALTHCHECK CMD ["nc", "-z", "localhost", "3000"]\n'),
    ],
)
def test_package_that_only_checks_or_people_need_is_left_out(run: str, check: str) -> None:
    made = plan(f"{NODE}RUN {run}\n{check}COPY . .\nCMD node index.js")
    assert not any(run in line for line in build_of(made))


@pytest.mark.parametrize(
    "packages", ["curl", "git=1:2.30", "build-essential", "make g++", "--virtual .b git"]
)
def test_package_whose_programs_the_machine_has_is_there(packages: str) -> None:
    text = f"{NODE}RUN apk add {packages}\nCOPY . .\nCMD node index.js"
    tree = MemoryTree({**FILES, "Dockerfile": text})
    made = make_plan(tree, Settings(has_dockerfile=True), MACHINE)
    assert made.start == "exec node index.js"
    with pytest.raises(RuntimeUnsupported, match="needs root"):
        make_plan(tree, Settings(has_dockerfile=True), EVERYTHING)


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("sed -i 's/\\r$//' run.sh", "sed -i 's/\\r$//' run.sh"),
        ("sed -i -e s#/app#/x# -e /y/d /app/a.txt", "sed -i -e s#/app#/x# -e /y/d /app/a.txt"),
        ("sed -i 's/deb/x/' /etc/apt/sources.list && chmod +x run.sh", "true && chmod +x run.sh"),
        ("find /app -name '*.map' -delete", "find /app -name '*.map' -delete"),
        ("cd /app && tar czf a.tgz src && rmdir x", "cd /app && tar czf a.tgz src && rmdir x"),
        ("grep -q x package.json || exit 1", "grep -q x package.json || exit 1"),
    ],
)
def test_commands_on_the_apps_own_files_are_run(line: str, run: str) -> None:
    made = plan(f"{NODE}COPY . .\nRUN {line}\nCMD node index.js")
    assert f"sh -c {quote(run)}" in build_of(made)
