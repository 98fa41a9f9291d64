"""Specs: a deployment's row becomes what the engine needs to build and run it."""

import msgspec

from moorage.deploy.sources import Sources
from moorage.engines.engine import BuildSpec, InstanceSpec, Limits
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from moorage.storage.vault import Vault


class Specs:
    """Makes specs. Raises VariablesUnreadable when variables cannot be decrypted."""

    def __init__(
        self,
        *,
        vault: Vault,
        app_limits: Limits,
        build_limits: Limits,
        build_seconds: int,
        sources: Sources,
    ) -> None:
        self._vault = vault
        self._app_limits = app_limits
        self._build_limits = build_limits
        self._build_seconds = build_seconds
        self._sources = sources

    def build(self, deployment: Deployment, *, owner: str) -> BuildSpec:
        """Returns how its upload is built, with `owner`'s caches and the variables of builds."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        return BuildSpec(
            deployment_id=deployment.id,
            source=self._sources.path(deployment.id),
            plan=plan_of(deployment),
            limits=self._build_limits,
            timeout_seconds=self._build_seconds,
            owner=owner,
            variables=variables.build,
        )

    def instance(self, deployment: Deployment, project: Project) -> InstanceSpec:
        """Returns how its app is run, with the variables of apps."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        return InstanceSpec(
            deployment_id=deployment.id,
            plan=plan_of(deployment),
            limits=self._app_limits,
            owner=project.wallet,
            variables=variables.run,
            volume=project.id if project.volume and deployment.id != project.volume_after else None,
        )


def plan_of(deployment: Deployment) -> Plan:
    """Returns the plan that its row holds."""
    return msgspec.json.decode(deployment.plan, type=Plan)
