"""Who begins, reads and ends runs over the API, and how often a repeated request begins one."""

from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from moorage.api.http.caller import Front, answered, authenticate
from moorage.api.http.idempotency import Idempotency
from moorage.api.runs import begin_run, end_run, list_runs, show_run
from moorage.auth.tokens import ManageTokens
from moorage.errors import (
    IdempotencyKeyReused,
    InvalidField,
    MoorageError,
    RunNotFound,
    TokenScope,
    WrongWallet,
)
from moorage.hosting.entrance.runs import Runs
from moorage.records.access import Scope
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project
from moorage.settings import load_settings
from moorage.storage.apps import runs
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project, fund
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import MovableClock

RUNS = "/agent/projects/{projectId}/runs"
ONE = f"{RUNS}/{{runId}}"
SIZES = load_settings(file=None, environ={}, base_domain="example.com").size_list


@pytest.fixture
def entrance(db: Database, clock: MovableClock) -> Believed:
    return Believed(
        db,
        clock,
        manage_tokens=ManageTokens(db=db, clock=clock),
        idempotency=Idempotency(db=db, clock=clock),
        public_url="https://gateway.example",
        runs=Runs(db=db, sizes=SIZES, clock=clock, on_queued=lambda: None),
    )


@pytest.fixture
async def project(db: Database) -> Project:
    return await served(db, ALICE, "own")


async def served(db: Database, wallet: str, name: str) -> Project:
    made = await add_project(db, wallet, name)
    await add_deployment(db, made, DeploymentStatus.READY, serving=True)
    await fund(db, wallet, 500_000)
    return made


def asked(
    project: Project, path: str, method: str, body: Any = None, run: str = "", **headers: str
) -> Request:
    content = b"" if body is None else msgspec.json.encode(body)
    named: dict[str, Any] = {"projectId": project.id} | ({"runId": run} if run else {})
    path = path.replace("{projectId}", project.id).replace("{runId}", run)
    return request_of(path=path, method=method, headers=headers, body=content, **named)


async def begin(entrance: Believed, project: Project, command: str = "ls", **headers: str) -> str:
    request = asked(project, RUNS, "POST", {"command": command}, **headers)
    return str(body_of(await answered(begin_run, entrance.room, request))["runId"])


async def test_run_is_queued_once_for_its_key(entrance: Believed, project: Project) -> None:
    first = await begin(entrance, project, **{"idempotency-key": "k"})
    assert await begin(entrance, project, **{"idempotency-key": "k"}) == first
    assert await begin(entrance, project) != first
    with pytest.raises(IdempotencyKeyReused):
        await begin(entrance, project, "rm -r /data", **{"idempotency-key": "k"})
    assert await runs.queued_of(entrance.db, project.id) == 2


async def test_key_of_one_project_answers_for_no_other(
    entrance: Believed, project: Project
) -> None:
    await begin(entrance, project, **{"idempotency-key": "k"})
    other = await served(entrance.db, ALICE, "other")
    with pytest.raises(IdempotencyKeyReused):
        await begin(entrance, other, **{"idempotency-key": "k"})


@pytest.mark.parametrize(("scope", "may_begin"), [(Scope.READ, False), (Scope.DEPLOY, True)])
async def test_token_begins_and_ends_runs_if_it_may_deploy(
    entrance: Believed, project: Project, scope: Scope, *, may_begin: bool
) -> None:
    made = await entrance.room.manage_tokens.make(project.id, scopes=[scope])
    headers = {"authorization": f"Bearer {made.token}"}
    run_id = await begin(entrance, project)
    for path, method in ((RUNS, "POST"), (ONE, "DELETE")):
        request = asked(project, path, method, run=run_id, **headers)
        assert await refused(entrance.room, request) is (None if may_begin else TokenScope)
    if may_begin:
        await begin(entrance, project, **headers)
        both = await runs.page(entrance.db, project, before=None, limit=2)
        assert {each.acted_by for each in both} == {"", f"token:{made.stored.id}"}


async def refused(front: Front, request: Request) -> type[MoorageError] | None:
    try:
        await authenticate(front, request)
    except MoorageError as error:
        return type(error)
    return None


async def test_runs_of_another_wallet_are_not_found(entrance: Believed, project: Project) -> None:
    run_id, others = await begin(entrance, project), await served(entrance.db, BOB, "other")
    entrance.wallet = BOB
    for handler in (show_run, end_run):
        with pytest.raises(RunNotFound):
            await answered(handler, entrance.room, asked(others, ONE, "GET", run=run_id))
        with pytest.raises(WrongWallet):
            await answered(handler, entrance.room, asked(project, ONE, "GET", run=run_id))
    listed = body_of(await answered(list_runs, entrance.room, asked(others, RUNS, "GET")))
    assert listed["runs"] == []


@pytest.mark.parametrize(
    "body", [{}, {"command": "a\0b"}, {"command": "ls", "timeout": 1}, {"command": ["ls"]}]
)
async def test_run_that_cannot_be_understood_is_refused(
    entrance: Believed, project: Project, body: dict[str, Any]
) -> None:
    with pytest.raises(InvalidField):
        await answered(begin_run, entrance.room, asked(project, RUNS, "POST", body))
    assert await runs.queued_of(entrance.db, project.id) == 0
