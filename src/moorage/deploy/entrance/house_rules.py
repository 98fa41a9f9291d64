"""What the operator allows: maintenance, the list of wallets, how many projects one may have."""

from moorage.errors import Maintenance, TooManyProjects, WalletNotListed
from moorage.records.project import Project
from moorage.storage.apps import projects
from moorage.storage.database import Source
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import WalletRule


class HouseRules:
    """Asked before anybody pays; what was paid for is carried out in maintenance all the same."""

    def __init__(self, *, listed_only: bool = False, projects: int = 0) -> None:
        """Takes the settings: listed wallets alone, and projects a wallet; 0 for any number."""
        self.change(listed_only=listed_only, projects=projects)

    def change(self, *, listed_only: bool, projects: int) -> None:
        """Takes other settings, from the next request on."""
        self._listed_only = listed_only
        self._projects = projects

    async def require(self, source: Source, wallet: str, own: Project | None) -> None:
        """Checks a deploy; `own` is the project that it is a version of, if there is one.

        Raises Maintenance, WalletNotListed, TooManyProjects.
        """
        maintenance, rule = await wallet_rules.rule_in_force(source, wallet)
        if maintenance is not None:
            raise Maintenance(maintenance)
        await self._require(source, rule, own)

    async def require_allowed(self, source: Source, wallet: str, own: Project | None) -> None:
        """Checks what the wallet is allowed, whether it has paid or not.

        Raises WalletNotListed, TooManyProjects.
        """
        await self._require(source, await wallet_rules.wallet_rule(source, wallet), own)

    async def require_listed(self, source: Source, wallet: str) -> None:
        """Raises WalletNotListed if only listed wallets may pay here, and this is none.

        A `wallet` that is "", nobody's yet, is none.
        """
        if self._listed_only:
            self._require_listed(await wallet_rules.wallet_rule(source, wallet))

    async def _require(self, source: Source, rule: WalletRule, own: Project | None) -> None:
        self._require_listed(rule)
        if own is None and rule.wallet:
            await self._require_number(source, rule)

    def _require_listed(self, rule: WalletRule) -> None:
        if self._listed_only and not rule.is_listed:
            raise WalletNotListed(signed=bool(rule.wallet))

    async def _require_number(self, source: Source, rule: WalletRule) -> None:
        limit = self._projects if rule.max_projects is None else rule.max_projects
        if rule.max_projects is None and not limit:
            return
        if len(await projects.of_wallet(source, rule.wallet)) >= limit:
            raise TooManyProjects(limit)
