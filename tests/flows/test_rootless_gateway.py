"""A whole gateway that an ordinary user started, as deployers and visitors see it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# What is true of every gateway, run here with the one below in the place of their own.
from test_apps import (  # noqa: F401
    busy_name,
    test_eight_apps_at_once_are_each_there_when_they_are_ready,
    test_hundred_megabytes_reach_the_app,
    test_redeploy_answers_when_it_is_ready_and_turns_nobody_away,
    test_server_sent_events_arrive_one_by_one,
    test_websocket_goes_through,
    test_zip_of_a_python_app_deploys,
    wallet,
)

from gateway_fixture import MOORAGE, DevGateway, running
from rootless_fixture import UID, as_user, missing, rootless_directory

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def gateway() -> Iterator[DevGateway]:
    if reason := missing():
        pytest.skip(reason)
    directory = rootless_directory()
    data_dir = directory / "data"
    data_dir.mkdir(mode=0o700)
    os.chown(data_dir, UID, UID)
    try:
        with running(
            data_dir,
            program=(*as_user(directory), MOORAGE),
            requests_per_minute="100000",
            accept_soft_limits="true",
            run_dir=str(directory / "run"),
        ) as started:
            yield started
    finally:
        shutil.rmtree(directory)


def test_no_process_of_it_is_root(gateway: DevGateway) -> None:
    below = [gateway.pid]
    for pid in below:  # which grows meanwhile; some end
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            below += map(int, children)
            assert Path(f"/proc/{pid}").stat().st_uid == UID
    assert len(below) > 1
