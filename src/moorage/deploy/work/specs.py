"""What a deployment is built and run with, from its row: plan, limits, and variables unsealed."""

from pathlib import Path

import msgspec

from moorage.engines.engine import BuildSpec, InstanceSpec, Limits
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from moorage.storage.vault import Vault


class Specs:
    """Makes specs. Each call raises VariablesUnreadable rather than leave variables out."""

    def __init__(
        self,
        *,
        vault: Vault,
        app_limits: Limits,
        build_limits: Limits,
        build_seconds: int,
        sources: Path,
    ) -> None:
        self._vault = vault
        self._app_limits = app_limits
        self._build_limits = build_limits
        self._build_seconds = build_seconds
        self._sources = sources

    def build(self, deployment: Deployment, *, owner: str) -> BuildSpec:
        """How its upload is built, with its owner's caches; without what only the app is to see."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        return BuildSpec(
            deployment_id=deployment.id,
            source=self._sources / deployment.id,
            plan=plan_of(deployment),
            limits=self._build_limits,
            timeout_seconds=self._build_seconds,
            owner=owner,
            variables=variables.build,
        )

    def instance(self, deployment: Deployment, project: Project) -> InstanceSpec:
        """How its app is run: without what only the build was to see."""
        variables = self._vault.open(deployment.variables, deployment.project_id)
        return InstanceSpec(
            deployment_id=deployment.id,
            plan=plan_of(deployment),
            limits=self._app_limits,
            variables=variables.run,
            volume=project.id if project.volume else None,
        )


def plan_of(deployment: Deployment) -> Plan:
    """The plan that its row holds."""
    return msgspec.json.decode(deployment.plan, type=Plan)
