"""The room's periodic work."""

from functools import partial

from moorage.hosting.addresses.domains import LOOK_SECONDS as UNCERTIFIED_SECONDS
from moorage.hosting.addresses.domains import WANT_SECONDS
from moorage.hosting.addresses.routes import FOLLOW_SECONDS as ROUTES_SECONDS
from moorage.hosting.addresses.routes import LOOK_SECONDS
from moorage.hosting.keeping.sleep import FOLLOW_SECONDS
from moorage.hosting.keeping.usage import SAMPLE_SECONDS
from moorage.hosting.services import DeployServices
from moorage.hosting.work.moving import TIDY_SECONDS
from moorage.hosting.work.schedules import EVERY_SECONDS
from moorage.loop import Loop, Scope

OLD_SOURCES_SECONDS = 3600.0
"""Files of a deploy that is older, and was not admitted, are left of a request that has ended."""


_EXPORT_SECONDS = 6 * 3_600.0  # what is deleted is packed first, as much as a volume holds


def loops_of(deploy: DeployServices) -> tuple[Loop, ...]:
    """Returns the loops of a gateway, which keeps the apps or does not."""
    sweep_exports = deploy.export_files.sweep
    retention, domains, cluster = deploy.retention.sweep, deploy.domains.look_due, Scope.CLUSTER
    return (
        Loop("suspension", every_seconds=2, tick=deploy.suspension.enforce, scope=cluster),
        Loop("domains", every_seconds=10, tick=domains, scope=cluster),
        Loop("schedules", every_seconds=EVERY_SECONDS, tick=deploy.schedules.tick, scope=cluster),
        Loop("old runs", every_seconds=3600, tick=deploy.schedules.purge, scope=cluster),
        Loop("retention", every_seconds=600, tick=retention, scope=cluster),
        Loop("exports", every_seconds=3600, tick=sweep_exports, scope=Scope.NODE),
        *_of_proxy(deploy),
        *(_of_leader(deploy) if deploy.keeps else _beside(deploy)),
    )


def _of_proxy(deploy: DeployServices) -> tuple[Loop, ...]:
    if (unseen := deploy.unseen) is None:
        return ()
    scope = Scope.NODE
    return (Loop("unseen routes", every_seconds=LOOK_SECONDS, tick=unseen.look, scope=scope),)


def _beside(deploy: DeployServices) -> tuple[Loop, ...]:
    scope, following = Scope.NODE, deploy.following
    room = Loop("room", every_seconds=2, tick=deploy.capacity.measure, scope=scope)
    if following is None:
        return (room,)
    follow, visits = following.routes.follow, following.visits.follow
    return (
        room,
        Loop("routes", every_seconds=ROUTES_SECONDS, tick=follow, at_once=True, scope=scope),
        Loop("requests", every_seconds=FOLLOW_SECONDS, tick=visits, scope=scope),
    )


def _of_leader(deploy: DeployServices) -> tuple[Loop, ...]:
    usage, reconciler, scope = deploy.usage, deploy.reconciler, Scope.LEADER
    sources = partial(reconciler.sweep_sources, min_age_seconds=OLD_SOURCES_SECONDS)
    lost, uncertified = deploy.addresses.unroute_lost, deploy.uncertified
    look, want, often = uncertified.look, uncertified.want, UNCERTIFIED_SECONDS
    return (
        Loop("wanted", every_seconds=WANT_SECONDS, tick=want, at_once=True, scope=scope),
        Loop("uncertified", every_seconds=often, tick=look, at_once=True, scope=scope),
        Loop("apps", every_seconds=2, tick=reconciler.reconcile, at_once=True, scope=scope),
        Loop("given up", every_seconds=1, tick=deploy.clear_up.given_up, scope=scope),
        Loop("sources", every_seconds=600, tick=sources, scope=scope),
        Loop("domains' routes", every_seconds=10, tick=lost, scope=scope),
        Loop(
            "evictions",
            every_seconds=10,
            tick=deploy.evictions.tick,
            scope=scope,
            patience_seconds=_EXPORT_SECONDS,
        ),
        Loop(
            "owners' exports",
            every_seconds=2,
            tick=deploy.owner_exports.tick,
            scope=scope,
            patience_seconds=_EXPORT_SECONDS,
        ),
        Loop("space", every_seconds=2, tick=deploy.space.look, scope=scope),
        Loop("requests", every_seconds=FOLLOW_SECONDS, tick=deploy.visits.follow, scope=scope),
        Loop("usage", every_seconds=SAMPLE_SECONDS, tick=usage.sample, scope=scope),
        Loop("old usage", every_seconds=300, tick=usage.purge, scope=scope),
        Loop("old volumes", every_seconds=TIDY_SECONDS, tick=deploy.volume_moves.tidy, scope=scope),
    )
