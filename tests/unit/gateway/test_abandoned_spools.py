"""Uploads that a gateway left go when any gateway of the directory starts, unless theirs runs."""

from pathlib import Path

from moorage.file_lock import FileLock
from moorage.gateway.leadership import sweep_abandoned_spools


def test_uploads_of_a_gateway_that_no_longer_runs_are_removed(tmp_path: Path) -> None:
    for name in ("gone", "runs"):
        (tmp_path / "spool" / name).mkdir(parents=True)
        (tmp_path / "spool" / name / "upload-1").write_text("half of it")
    (tmp_path / "spool" / "upload-2").write_text("of a gateway without a name")
    (tmp_path / "gateways").mkdir()
    FileLock(tmp_path / "gateways" / "gone.lock").close()
    running = FileLock(tmp_path / "gateways" / "runs.lock")
    assert running.lock()

    sweep_abandoned_spools(tmp_path)

    running.close()
    left = {path.name for path in (tmp_path / "spool").rglob("*")}
    assert left == {"runs", "upload-1", "upload-2"}
