"""Releases beside a plain model: nothing that serves, or could again, is ever removed; all else is.

Deploys, rollbacks, failures, deletions and crashes come in any order, with the reconciler amid.
"""

import contextlib
import uuid
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
)
from yard import PLACES, Yard

from moorage.errors import (
    DeployFailed,
    FailureCause,
    ReleaseGone,
    ReleaseNeverServed,
    ReleaseServing,
)
from moorage.hosting.entrance import configuration
from moorage.hosting.limits import RELEASES_KEPT
from moorage.hosting.work.rollback import Rollback
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus
from moorage.records.project import ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from support.books.book_model import BookModel, run_histories
from support.books.records_fixture import ALICE, GATEWAY, PLAN, UNLIMITED, add_project, fund
from support.gateway.fakes import roomy

Result = TypeVar("Result")
FAILING_STEPS = ["build", "copy", "start"]  # by the app's own fault
STEPS = [*FAILING_STEPS, "discard", "remove", "stop"]


class Harbour(BookModel):
    def __init__(self) -> None:
        super().__init__()
        (self.directory / "sources").mkdir()
        self.yard = self.gateway()
        self.run(fund(self.db, ALICE, 1_000_000_000))
        self.project = self.run(add_project(self.db, status=ProjectStatus.QUEUED))
        self.forget()

    def gateway(self) -> Yard:
        """The services of a gateway that has just been started."""
        return Yard(self.db, self.clock, self.directory / "sources")

    def forget(self) -> None:
        """What the model knows of a project's deployments, each list oldest first."""
        self.serving: str | None = None
        self.releases: list[str] = []
        self.failed: list[str] = []
        self.given_up: list[str] = []
        self.under_way: dict[str, str | None] = {}  # and what each copies
        self.known: list[str] = []

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        self.clock.advance(1)
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.yard.runtime.faults.clear()
            self.run(self.quiet())
            self.everything_kept_is_there()
            on_machine = self.run(self.yard.runtime.known())
            over = (self.releases, self.failed, self.given_up)
            latest = {each for of_a_kind in over for each in of_a_kind[-RELEASES_KEPT:]}
            assert on_machine <= {self.serving, *latest}
            assert set(self.yard.runtime.apps) == ({self.serving} if self.serving else set())
        finally:
            super().teardown()

    async def quiet(self) -> None:
        """Carry out what waits, then reconcile until there is nothing left to do."""
        while self.under_way:
            await self.carry_out_next()
            self.clock.advance(600_000)
        for _ in range(8):
            await self.yard.reconcile()
            self.clock.advance(600_000)

    # What happens

    @rule()
    def deploy(self) -> None:
        async def queue() -> Deployment:
            deployment = Deployment(
                id=str(uuid.uuid4()),
                project_id=self.project.id,
                status=DeploymentStatus.QUEUED,
                request_digest="",
                plan=msgspec.json.encode(PLAN).decode(),
                note="",
                reason=None,
                reason_code=None,
                log_tail="",
                created_at_ms=self.now_ms,
            )
            (self.yard.sources / deployment.id).mkdir()
            async with self.db.transaction(durable=True) as tx:
                project = await projects.by_id(tx, self.project.id)
                assert project is not None
                under_way = await deployments.under_way_of(tx, project.id)
                await configuration.queue_deployment(tx, project, deployment, in_place_of=under_way)
            return deployment

        deployment = self.run(queue())
        self.begun(deployment.id, None)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def begun(self, deployment_id: str, copy_of: str | None) -> None:
        self.given_up += self.under_way
        self.under_way = {deployment_id: copy_of}
        self.known.append(deployment_id)

    @rule(back=st.integers(1, 8))
    def roll_back(self, back: int) -> None:
        if len(self.known) < back:
            return
        wanted = self.known[-back]
        rollback = Rollback(
            db=self.db,
            runtime=self.yard.runtime,
            capacity=roomy(self.db),
            copies=UNLIMITED,
            clock=self.clock,
            on_queued=self.yard.worker.wake,
            on_superseded=self.yard.worker.drop,
        )
        try:
            queued = self.run(rollback.to(self.project, wanted))
        except ReleaseServing:
            assert wanted == self.serving
        except ReleaseNeverServed:
            assert wanted in {*self.failed, *self.given_up, *self.under_way}
        except ReleaseGone:
            assert wanted in self.releases[:-RELEASES_KEPT]
        else:
            assert wanted in self.releases
            self.begun(queued.deployment_id, queued.release_id)

    @rule()
    def carry_out(self) -> None:
        self.run(self.carry_out_next())

    async def carry_out_next(self) -> None:
        """As the worker does; a gateway that dies at it leaves the job to the next one."""
        async with self.db.transaction(durable=False) as tx:
            await jobs.expire_leases(tx, GATEWAY)
            job = await jobs.claim(
                tx,
                holder=GATEWAY,
                now_ms=self.now_ms,
                until_ms=self.now_ms + 60_000,
                places=PLACES,
            )
        if job is None:
            return
        with contextlib.suppress(OSError):  # it died
            await self.yard.workflow.run(job)
        ended = await self.yard.deployment(job.subject_id)
        if ended.status in UNDER_WAY:
            return
        del self.under_way[ended.id]
        if ended.status is DeploymentStatus.FAILED:
            self.failed.append(ended.id)
            return
        self.releases += [self.serving] if self.serving else []
        self.serving = ended.id

    @rule(step=st.sampled_from(STEPS))
    def gateway_dies_at_a_step(self, step: str) -> None:
        self.yard.runtime.faults[step] = [OSError("died")]

    @rule(step=st.sampled_from(FAILING_STEPS))
    def next_time_a_step_fails(self, step: str) -> None:
        self.yard.runtime.faults[step] = [DeployFailed(FailureCause.CRASHED, "no")]

    @rule(seconds=st.sampled_from([0, 2, 40, 300]))
    def reconcile(self, seconds: int) -> None:
        async def once() -> None:
            await self.yard.reconcile()

        self.clock.advance(seconds * 1000)
        self.run(once())

    @rule(busy=st.booleans())
    def somebody_stays_connected(self, busy: bool) -> None:
        for app in self.yard.runtime.apps:
            self.yard.runtime.open_connections[app] = int(busy)

    @rule()
    def gateway_is_killed_and_started_again(self) -> None:
        runtime, routes = self.yard.runtime, self.yard.routes
        self.yard = self.gateway()
        self.yard.runtime.__dict__.update(runtime.__dict__)
        self.yard.routes.__dict__.update(routes.__dict__)

    @rule()
    def delete(self) -> None:
        faults, self.yard.runtime.faults = self.yard.runtime.faults, {}
        self.run(self.yard.deletion.delete(self.project))
        self.yard.runtime.faults = faults
        self.forget()
        self.project = self.run(add_project(self.db, status=ProjectStatus.QUEUED))

    # What is always so

    @invariant()
    def everything_kept_is_there(self) -> None:
        copied = {origin for origin in self.under_way.values() if origin is not None}
        kept = {*self.releases[-RELEASES_KEPT:], *copied}
        if self.serving is not None:
            kept.add(self.serving)
        assert kept <= self.yard.runtime.built.keys()

    @invariant()
    def what_serves_runs(self) -> None:
        assert self.serving is None or self.serving in self.yard.runtime.apps


def test_what_may_be_served_again_is_kept_and_the_rest_is_collected(migrated: Path) -> None:
    run_histories(Harbour, migrated, histories=15, steps=30)
