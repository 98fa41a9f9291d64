"""What a hostile build leaves for later builds of its wallet: it gets nobody anything by it."""

import stat
from pathlib import Path

import pytest

from moorage.engines.engine import log_tail
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.records.deployment import LogKind
from support.engines.small_apps import LIMITS, MIB, build, plan

pytestmark = pytest.mark.root

ATTACKER, VICTIM = "0x" + "66" * 20, "0x" + "77" * 20
SKIPPED = "dependencies unchanged: install skipped"

# Where the next version has a directory there is a link; all else is what copying may stumble on.
PLANT = """\
ln -s {precious} static; ln -s {precious}/file index.js.d; ln -s /etc ~/etc
truncate -s 1T sparse; truncate -s 1T ~/sparse; mkfifo pipe ~/pipe
cp /usr/bin/id root-id; chmod 4755 root-id; ln root-id hard
mkdir -p shut/inside; chmod 0 shut; mkdir deep; cd deep
i=0; while [ $i -lt 200 ]; do mkdir d && cd d; i=$((i+1)); done; touch bottom
"""


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory of the host's."""
    directory = tmp_path / "precious"
    directory.mkdir()
    (directory / "file").write_text("precious")
    return directory


def disk_bytes(directory: Path) -> int:
    """What all files below really take."""
    files = (path.lstat() for path in directory.rglob("*"))
    return sum(it.st_blocks * 512 for it in files if stat.S_ISREG(it.st_mode))


async def test_layer_full_of_traps_is_used_or_thrown_away_and_springs_none(
    caching_sandbox: Sandbox, source: Path, precious: Path, tmp_path: Path
) -> None:
    (source / "lock").write_text("one")
    install = PLANT.format(precious=precious)
    trapped = plan(install=install, build="./root-id -u; ls -l", install_inputs=("lock",))
    await build(caching_sandbox, source, trapped, owner=ATTACKER)
    (source / "static").mkdir()
    (source / "static" / "file").write_text("of the second version")
    later = plan(install=install, build="cat static/file; ./root-id -u", install_inputs=("lock",))
    for name in ("second", "third"):
        await build(caching_sandbox, source, later, deployment_id=name, owner=ATTACKER)
        said = await log_tail(caching_sandbox, name, LogKind.BUILD)
        assert "of the second version" in said
        assert "\n0\n" not in said
    assert {path.name: path.read_text() for path in precious.iterdir()} == {"file": "precious"}
    assert precious.stat().st_uid == 0
    assert disk_bytes(tmp_path / "state") < 6 * LIMITS.disk_bytes + 8 * MIB


async def test_another_wallet_has_nothing_of_a_poisoned_layer(
    caching_sandbox: Sandbox, source: Path
) -> None:
    (source / "lock").write_text("one")
    same = plan(
        install="mkdir packages; cat /proc/sys/kernel/random/uuid > packages/made",
        build="cat packages/made; ls -a ~ /var/cache/moorage",
        install_inputs=("lock",),
    )
    poison = plan(
        install=same.install,
        build="echo poisoned > packages/made; echo poisoned > /var/cache/moorage/download",
        install_inputs=("lock",),
    )
    await build(caching_sandbox, source, poison, owner=ATTACKER)
    await build(caching_sandbox, source, same, deployment_id="again", owner=ATTACKER)
    assert SKIPPED in await log_tail(
        caching_sandbox, "again", LogKind.BUILD
    )  # so there was a layer
    await build(caching_sandbox, source, same, deployment_id="victim", owner=VICTIM)
    said = await log_tail(caching_sandbox, "victim", LogKind.BUILD)
    assert SKIPPED not in said
    assert "poisoned" not in said
    assert "download" not in said
