"""The table of a wallet's pages: method, path and handler of each that needs a session."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response

from moorage.pages.wallet import events, links
from moorage.pages.wallet.money import history, top_up
from moorage.pages.wallet.overview import overview
from moorage.pages.wallet.project import (
    actions,
    deployments,
    domains,
    logs,
    metrics,
    settings,
    shown,
    variables,
)
from moorage.pages.wallet.view import View

Handler = Callable[[View], Awaitable[Response]]

_PROJECT = "/wallet/projects/{project_id}"
_DEPLOYMENT = _PROJECT + "/deployments/{deployment_id}"

PAGES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", "/wallet", overview),
    ("GET", _PROJECT, shown.show_project),
    ("POST", f"{_PROJECT}/restart", actions.restart),
    ("POST", f"{_PROJECT}/pause", actions.pause),
    ("POST", f"{_PROJECT}/resume", actions.resume),
    ("POST", f"{_PROJECT}/rollback", actions.roll_back),
    ("GET", f"{_PROJECT}/delete", actions.ask_to_delete),
    ("POST", f"{_PROJECT}/delete", actions.delete),
    ("POST", f"{_PROJECT}/settings/export", settings.export),
    ("POST", f"{_PROJECT}/settings/revoke-tokens", actions.revoke_tokens),
    ("GET", f"{_PROJECT}/deployments", deployments.list_deployments),
    ("GET", _DEPLOYMENT, deployments.show_deployment),
    ("POST", f"{_DEPLOYMENT}/cancel", actions.cancel),
    ("GET", f"{_PROJECT}/logs", logs.show_logs),
    ("GET", f"{_PROJECT}/logs/search", logs.search_on),
    ("GET", f"{_PROJECT}/logs/stream", logs.stream_logs),
    ("GET", f"{_PROJECT}/logs/download", logs.download_logs),
    ("GET", f"{_PROJECT}/metrics", metrics.show_metrics),
    ("GET", f"{_PROJECT}/variables", variables.show_variables),
    ("POST", f"{_PROJECT}/variables", variables.set_variables),
    ("POST", f"{_PROJECT}/variables/remove", variables.remove_variable),
    ("GET", f"{_PROJECT}/domains", domains.show_domains),
    ("POST", f"{_PROJECT}/domains", domains.add_domain),
    ("POST", f"{_PROJECT}/domains/check", domains.check_domain),
    ("POST", f"{_PROJECT}/domains/remove", domains.remove_domain),
    ("GET", f"{_PROJECT}/settings", settings.show_settings),
    ("POST", f"{_PROJECT}/settings", settings.change_settings),
    ("GET", "/wallet/top-up", top_up.ask_amount),
    ("GET", "/wallet/top-up/pay", top_up.show_ways),
    ("GET", "/wallet/top-up/watch", top_up.watch),
    ("GET", "/wallet/top-up/outcome", top_up.show_outcome),
    ("POST", "/wallet/top-up/sent", top_up.show_transaction),
    ("POST", "/wallet/top-up/signed", top_up.take_authorization),
    ("GET", "/wallet/credits", history.show_ledger),
    ("GET", "/wallet/credits.csv", history.download_ledger),
    ("GET", "/wallet/payments", history.show_payments),
    ("GET", "/wallet/payments.csv", history.download_payments),
    ("GET", "/wallet/payments/{tx_hash}", history.show_receipt),
    ("GET", "/wallet/links", links.show_links),
    ("POST", "/wallet/links", links.make_link),
    ("POST", "/wallet/links/once", links.make_link_once),
    ("POST", "/wallet/links/{link_id}/remove", links.remove_link),
    ("GET", "/wallet/events", events.show_events),
    ("POST", "/wallet/events/{event_id}/redeliver", events.redeliver),
    ("POST", "/wallet/webhook", events.set_webhook),
    ("GET", "/wallet/webhook", events.show_secret),
    ("POST", "/wallet/webhook/remove", events.remove_webhook),
)
