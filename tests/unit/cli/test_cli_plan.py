"""`moorage plan`: the plan of what a deploy would upload."""

import json
from pathlib import Path

import pytest

from moorage.cli.main import run
from moorage.planning.toolbox import Toolbox
from support.engines.toolboxes import TOOLBOX

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(autouse=True)
def toolbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a plan may use is given: neither this machine nor npm is asked."""

    async def given() -> Toolbox:
        return TOOLBOX

    monkeypatch.setattr("moorage.gateway.platform.toolbox_here", given)


def test_plan_says_how_an_example_is_built_and_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", str(EXAMPLES / "fastapi"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["stack"] == "python"
    assert "-r requirements.txt" in made["install"]
    assert made["start"].endswith("uvicorn --host 0.0.0.0 --port $PORT main:app")


def test_plan_says_which_versions_it_needs_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.js").write_text("")
    (tmp_path / ".nvmrc").write_text("22")
    assert run(["plan", str(tmp_path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "- .nvmrc asks for 22: node 22.23.3" in shown
    assert "versions: node 22.23.3" in shown
    assert "start:    exec node index.js" in shown


@pytest.mark.parametrize(
    ("files", "start"),
    [
        ({"index.html": ""}, "serves the app's files by Caddy"),
        ({"README.md": "", "public/index.html": ""}, "serves public/ by Caddy"),
        (
            {"package.json": '{"scripts": {"build": "vite build"}, "dependencies": {"vite": "7"}}'},
            "serves dist/ by Caddy, index.html for what is no file",
        ),
    ],
)
def test_plan_of_a_site_says_what_is_served(
    files: dict[str, str], start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert run(["plan", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"start:    {start}"
    assert run(["plan", str(tmp_path), "--json"]) == 0
    assert "try_files" in json.loads(capsys.readouterr().out)["start"]


def test_plan_sees_only_what_would_be_uploaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("<h1>")
    (tmp_path / ".gitignore").write_text("package.json\n")
    (tmp_path / "package.json").write_text('{"scripts": {"start": "node index.js"}}')
    (tmp_path / ".env").write_text("SECRET=1")
    assert run(["plan", str(tmp_path), "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["stack"] == "static"
    assert "warning: .env was not uploaded" in shown.err


def test_plan_warns_of_a_program_that_the_site_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("hello")
    (tmp_path / "backend").mkdir()
    (tmp_path / "backend" / "go.mod").write_text("module x\n")
    assert run(["plan", str(tmp_path)]) == 0
    assert "warning: backend/ has a program of its own (go.mod)" in capsys.readouterr().err


def test_plan_of_nothing_exits_with_2_and_says_what_was_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("nothing to run")
    assert run(["plan", str(tmp_path)]) == 2
    assert "Set --run to the line that starts it" in capsys.readouterr().err


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    for name in ("shop", "blog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "package.json").write_text('{"scripts": {"start": "node index.js"}}')
        (tmp_path / name / "index.js").write_text("")
    return tmp_path


def test_plan_of_several_apps_says_which_flag_picks_one_and_takes_it(
    monorepo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", str(monorepo)]) == 2
    assert "set --directory to the one to deploy" in capsys.readouterr().err
    assert run(["plan", str(monorepo), "--directory", "shop"]) == 0
    shown = capsys.readouterr().out
    assert "- --directory is shop" in shown
    assert "start:    exec node index.js" in shown


def test_plan_takes_the_flags_of_a_deploy_and_refuses_what_it_would(
    monorepo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--directory", "blog", "--install", "", "--run", "node x.js", "--port", "8080")
    assert run(["plan", str(monorepo), *flags, "--env", "A=1", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["directory"], made["install"], made["port"]) == ("blog", None, 8080)
    assert made["start"].endswith("node x.js")
    assert run(["plan", str(monorepo), "--directory", "blog", "--port", "0"]) == 2
    assert "--port: must be 1–65535" in capsys.readouterr().err
