"""Caddyfiles: what of them is followed, and when it is said that they are not."""

import pytest

from moorage.errors import RuntimeUnsupported
from moorage.planning.plan import Plan, Settings
from moorage.planning.planner import make_plan
from moorage.planning.static import said
from support.engines.memory_tree import MemoryTree
from support.engines.toolboxes import TOOLBOX

FILES = {"pages/index.html": "", "index.html": "", "Dockerfile": "FROM caddy:2\nCOPY pages /srv\n"}
FALLBACK = ", index.html for what is no file"


def plan(caddyfile: str, *, in_image: bool = False) -> Plan:
    files = {**FILES, "Caddyfile": caddyfile}
    if in_image:
        files["Dockerfile"] += "COPY Caddyfile /etc/caddy/Caddyfile\n"
    return make_plan(MemoryTree(files), Settings(has_dockerfile=in_image), TOOLBOX)


LOGGED = "{\n\tadmin off\n\tlog {\n\t\tlevel ERROR\n\t}\n}\n"
HANDLED = (
    "handle {\nroot * /var/www/html\ntry_files {path} {path}/ index.html\n"
    "file_server {\nhide .x a/.git/*\n}\n}"
)
TWO_NAMES = 'example.com, www.example.com {\nroot * "/srv/pages"\ntry_files {path} /index.html\n}'


@pytest.mark.parametrize(
    ("caddyfile", "directory", "fallback"),
    [
        (":80 {\n\troot * pages\n\tfile_server\n}", "pages/", ""),
        (f"{LOGGED}:80 {{\n\troot pages\n\tfile_server\n}}\n", "pages/", ""),
        ("# mine\n:{$PORT:3000}\n\nroot * ./pages # here\nfile_server browse\n", "pages/", ""),
        (TWO_NAMES, "pages/", FALLBACK),
        (f":80 {{\n{HANDLED}\n}}", "the app's files", FALLBACK),
        (":80 {\nheader {\nX-A b\nroot * nowhere\n}\n@a path /a\n}", "the app's files", ""),
    ],
)
def test_directory_and_fallback_of_a_site_of_files_are_followed(
    caddyfile: str, directory: str, fallback: str
) -> None:
    made = plan(caddyfile)
    assert said(made.start) == f"serves {directory} by Caddy{fallback}"
    assert any("the Caddyfile names the files to serve" in sentence for sentence in made.because)


def test_what_is_served_without_is_said() -> None:
    made = plan(":80 {\nencode gzip\nheader /a/* X-A b\nfile_server\n}")
    assert any("without encode, header" in sentence for sentence in made.because)


MORE = [
    ("a.example {\nfile_server\n}\nb.example {\nfile_server\n}", "line 4"),
    ("(shared) {\nencode\n}\n:80 {\nimport shared\n}", "line 1"),
    (":80 {\nhandle /api/* {\nreverse_proxy b:1\n}\nfile_server\n}", "line 2, handle"),
    (":80 {\nreverse_proxy b:1\n}", "line 2, reverse_proxy"),
    (":80 {\nredir /a /b\nfile_server\n}", "line 2, redir"),
    (":80 {\ntry_files {path} /other.html\nfile_server\n}", "line 2, try_files"),
    (":80 {\nrespond hello\n}", "line 2, respond"),
    (":80 {\nfile_server /pages/*\n}", "line 2, file_server"),
    (":80 {\nroot /a/* pages\nfile_server\n}", "line 2, root"),
]


@pytest.mark.parametrize(("caddyfile", "why"), MORE)
def test_what_does_more_is_not_followed_and_that_is_said(caddyfile: str, why: str) -> None:
    made = plan(caddyfile)
    assert said(made.start) == "serves the app's files by Caddy"
    assert any(f"the Caddyfile is not followed ({why}" in sentence for sentence in made.because)
    with pytest.raises(RuntimeUnsupported, match=why):
        plan(caddyfile, in_image=True)


@pytest.mark.parametrize("root", ["../up", "/opt/site", "{$SITE}", "nowhere"])
def test_directory_that_is_not_in_the_upload_is_not_followed(root: str) -> None:
    made = plan(f":80 {{\nroot * {root}\nfile_server\n}}")
    assert said(made.start) == "serves the app's files by Caddy"
    assert any("is not followed (its root)" in sentence for sentence in made.because)


@pytest.mark.parametrize(
    "directive",
    ["basic_auth", "basicauth /private/*", "forward_auth b:1", "file_server {\nhide .git ./secret"],
)
def test_site_that_keeps_files_from_visitors_is_refused(directive: str) -> None:
    """Without that its files would be everybody's."""
    caddyfile = f":80 {{\nroute {{\n{directive} {{\nme hash\n}}\n}}\nfile_server\n}}"
    for in_image in (False, True):
        with pytest.raises(RuntimeUnsupported, match=r"line [34]"):
            plan(caddyfile, in_image=in_image)


def test_caddyfile_of_an_image_names_paths_of_the_image() -> None:
    made = plan(":80 {\nroot * /srv\ntry_files {path} /index.html\nfile_server\n}", in_image=True)
    assert said(made.start) == f"serves the app's files by Caddy{FALLBACK}"
    assert "put /app/ /app/.dockerfile/context/pages" in (made.build or "")
