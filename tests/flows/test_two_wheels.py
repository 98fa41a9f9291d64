"""The two wheels, built without a network and installed as users do, on each Python here."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

import moorage
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway, running

pytestmark = pytest.mark.root

UV = Path(sys.executable).parent / "uv"


def python_of(version: str) -> str:
    """The Python of a version; "" if this machine has none."""
    find = [str(REPOSITORY / "scripts/find-python"), version]
    found = subprocess.check_output(find, cwd=REPOSITORY, text=True).strip()
    return sys.executable if found.startswith(".venv/") else found


VERSIONS = [version for version in ("3.11", "3.12", "3.13") if python_of(version)]
MAX_CLIENT_BYTES = 5_000_000
IMPORT_ALL = """
import sys, moorage
assert "aiohttp" not in sys.modules, "the package alone is to be instant"
from moorage import deploy
import pkgutil
for found in pkgutil.walk_packages(moorage.__path__, "moorage."):
    if found.name != "moorage.mcp.local" and found.name != "moorage.mcp.server":
        __import__(found.name)
"""
DEPLOY = """
import sys
from moorage import deploy
print(deploy(sys.argv[1], name=sys.argv[2], max_usd=1).url)
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels by their distributions' names."""
    directory = tmp_path_factory.mktemp("dist")
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    build = (sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", directory)
    subprocess.run([*build, REPOSITORY, REPOSITORY / "client"], check=True)
    return {each.name.partition("-")[0]: each for each in directory.iterdir()}


def install(directory: Path, version: str, *wheels: Path) -> Path:
    """A virtual environment with these wheels; what they require is as it is locked."""
    subprocess.run([python_of(version), "-m", "venv", directory], check=True)
    lock = REPOSITORY / "requirements/runtime.txt"
    command = (UV, "pip", "install", "--quiet", "--python", directory, "--constraint", lock)
    subprocess.run([*command, *wheels], check=True)
    return directory / "bin"


@pytest.fixture(scope="module", params=VERSIONS)
def client(
    request: pytest.FixtureRequest,
    wheels: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The programs of an environment with the client's wheel alone."""
    directory = tmp_path_factory.mktemp(f"client-{request.param}")
    return install(directory, request.param, wheels["moorage_client"])


@pytest.fixture(scope="module")
def whole(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with both wheels."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return install(tmp_path_factory.mktemp("whole"), version, *wheels.values())


@pytest.fixture(scope="module")
def gateway(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """A gateway of the installed wheels."""
    with running(tmp_path_factory.mktemp("gateway"), program=[str(whole / "moorage")]) as started:
        yield started


def run(*words: Path | str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program outside of the repository."""
    inherited = {name: it for name, it in os.environ.items() if not name.startswith("MOORAGE_")}
    return subprocess.run(
        words, cwd="/", env=inherited | environment, capture_output=True, text=True, check=False
    )


def files_of(wheel: Path) -> set[str]:
    names = zipfile.ZipFile(wheel).namelist()
    return {name for name in names if name.startswith("moorage/")}


def test_each_file_of_the_source_is_in_one_wheel_alone(wheels: dict[str, Path]) -> None:
    client, gateway = files_of(wheels["moorage_client"]), files_of(wheels["moorage"])
    source = REPOSITORY / "src"
    files = {str(each.relative_to(source)) for each in source.rglob("*") if each.is_file()}
    assert client & gateway == set()
    assert client | gateway == {each for each in files if "__pycache__" not in each}


def test_client_holds_what_it_imports_and_nothing_else(wheels: dict[str, Path]) -> None:
    graph = grimp.build_graph("moorage", cache_dir=None)
    for name in graph.find_descendants("moorage.cli.operator"):
        graph.remove_module(name)
    graph.remove_module("moorage.cli.operator")
    rooms = ("moorage.cli.", "moorage.sdk.")
    needed = {name for name in graph.modules if name.startswith(rooms)} | {"moorage.mcp.local"}
    needed |= set[str]().union(*(graph.find_upstream_modules(name) for name in needed))
    needed |= {name.rpartition(".")[0] for name in needed if "." in name}
    modules = {
        name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for name in files_of(wheels["moorage_client"])
        if name.endswith(".py")
    }
    assert modules == needed


def test_client_is_small(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["moorage_client"]) as wheel:
        assert sum(each.file_size for each in wheel.infolist()) < MAX_CLIENT_BYTES


def test_client_alone_runs_and_every_module_of_it_is_imported(client: Path) -> None:
    assert run(client / "moorage", "--version").stdout.strip() == moorage.__version__
    assert run(client / "moorage-client", "deploy", "--help").returncode == 0
    imported = run(client / "python", "-c", IMPORT_ALL)
    assert imported.returncode == 0, imported.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_clients_commands_and_flags(client: Path, shell: str) -> None:
    script = run(client / "moorage", "completion", shell).stdout
    assert [word for word in ("topup", "--max-usd", "--gateway") if word not in script] == []
    assert "base-domain" not in script  # of `moorage operator`
    if shell == "bash":
        assert run("bash", "-n", "-c", script).returncode == 0


@pytest.mark.parametrize(
    "command", ["operator audit", "operator", "dev", "serve", "check", "plan", "projects --all"]
)
def test_command_of_the_gateway_says_what_to_install(client: Path, command: str) -> None:
    done = run(client / "moorage", *command.split())
    (said,) = done.stderr.splitlines()
    assert done.returncode == 2
    assert said.startswith(f"error: `moorage {command.removesuffix(' audit')}` is of the gateway")
    assert said.endswith(": pip install moorage")


def test_tools_for_agents_say_what_to_install(client: Path) -> None:
    done = run(client / "moorage", "mcp")
    assert done.returncode == 2
    assert "pip install 'moorage-client[mcp]'" in done.stderr


async def test_client_alone_deploys_to_a_gateway_of_the_wheels(
    client: Path, gateway: DevGateway, tmp_path: Path
) -> None:
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    deployed = run(
        *(client / "python", "-c", DEPLOY, str(REPOSITORY / "examples/hello-node"), name),
        MOORAGE_GATEWAY=gateway.url,
        MOORAGE_PRIVATE_KEY=wallet.key,
        MOORAGE_STATE_DIR=str(tmp_path),
        MOORAGE_RPC_URL_ARBITRUM=gateway.info["chains"]["arbitrum"]["rpc_url"],
    )
    assert deployed.returncode == 0, deployed.stderr
    assert name in deployed.stdout
    assert (await wallet.visit(name))[0] == 200


def test_gateway_of_the_wheels_finds_its_programs_and_a_sandbox(whole: Path) -> None:
    findings = json.loads(run(whole / "moorage", "check", "--json").stdout)["findings"]
    found = {each["name"]: each["ok"] for each in findings}
    assert (found["bundled programs"], found["isolation"]) == (True, True)


def test_units_run_the_installed_gateway(whole: Path) -> None:
    planned = json.loads(
        run(whole / "moorage", "operator", "install", "--systemd", "--json").stdout
    )
    (unit,) = [
        each["text"] for each in planned["files"] if each["path"].endswith("/moorage.service")
    ]
    assert f"\nExecStart={whole}/moorage serve --config /etc/moorage/moorage.toml\n" in unit
