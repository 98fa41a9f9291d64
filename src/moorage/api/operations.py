"""The table of operations: every method and path that the API answers, in OpenAPI's order."""

from moorage.api import deploy, deployments, domains, open_door, projects, public, webhooks
from moorage.api.access import links, manage_tokens
from moorage.api.http.operation import Operation
from moorage.api.logs.deployment_logs import show_logs
from moorage.api.logs.project_logs import show_project_logs
from moorage.api.money.credits import show_credits
from moorage.api.money.payments import list_payments
from moorage.api.money.topup import top_up
from moorage.api.status import status
from moorage.api.uploads import store_upload
from moorage.api.usage import show_usage
from moorage.wire.credits import Credits, ToppedUp, TopUpBody
from moorage.wire.deploy import DeployBody, Deployed, FilesUpload, Quoted, UploadStored, ZipUpload
from moorage.wire.deployments import (
    Cancelled,
    DeploymentList,
    DeploymentProgress,
    DeploymentShown,
    RollbackBody,
)
from moorage.wire.domains import DomainBody, DomainItem, DomainList, DomainRemoved
from moorage.wire.events import (
    EventPage,
    Redelivery,
    WebhookBody,
    WebhookMade,
    WebhookRemoved,
    WebhookShown,
)
from moorage.wire.links import LinkBody, LinkList, LinkMade, LinkRemoved
from moorage.wire.logs import LogBody, ProjectLogBody
from moorage.wire.payments import PaymentList
from moorage.wire.projects import (
    ChangeBody,
    ManageTokenMade,
    ManageTokensRevoked,
    ProjectChanged,
    ProjectDeleted,
    ProjectList,
    ProjectShown,
)
from moorage.wire.public import Balances, ChainList, Health
from moorage.wire.usage import ProjectUsage

_OF_LOGS = {
    "kind": "build or runtime; runtime by default",
    "tail": "the last so many lines, up to 10000; 500 without this, after and since",
    "since": "not before this time: ISO 8601 with an offset, or Unix milliseconds",
    "after": "`next` of the page before this one",
    "follow": "true: server-sent events, `line` for each as it comes, then `end`; Last-Event-ID "
    "goes on behind one",
}

_PAGE = {
    "limit": "how many, 20 unless given, at most 100",
    "before": "`next` of the page before this one",
}

OPERATIONS = (
    Operation(
        method="POST",
        path="/agent/deploy",
        handler=deploy.deploy,
        body=DeployBody,
        answer=Deployed,
        or_answer=Quoted,
        fails=(400, 402, 408, 409, 413, 502, 503),
        signed=True,
        paid=True,
        priced=True,
    ),
    Operation(
        method="POST",
        path="/deploy",
        handler=open_door.pay_to_deploy,
        body=DeployBody,
        answer=Deployed,
        or_answer=Quoted,
        fails=(400, 401, 402, 403, 408, 409, 413, 429, 502, 503),
        paid=True,
        priced=True,
    ),
    Operation(
        method="POST",
        path="/credits",
        handler=open_door.pay_for_credits,
        body=TopUpBody,
        answer=ToppedUp,
        fails=(400, 401, 402, 403, 408, 409, 413, 429, 502, 503),
        paid=True,
        body_optional=True,
    ),
    Operation(
        method="GET",
        path="/agent/credits",
        handler=show_credits,
        answer=Credits,
        fails=(400, 503),
        signed=True,
        query={
            "limit": "how many entries of the ledger, 20 unless given, at most 100",
            "before": "`next` of the page before this one",
        },
    ),
    Operation(
        method="POST",
        path="/agent/credits",
        handler=top_up,
        body=TopUpBody,
        answer=ToppedUp,
        fails=(400, 402, 408, 409, 413, 502, 503),
        signed=True,
        paid=True,
        body_optional=True,
    ),
    Operation(
        method="GET",
        path="/agent/payments",
        handler=list_payments,
        answer=PaymentList,
        fails=(400, 503),
        signed=True,
        query=_PAGE,
    ),
    Operation(
        method="POST",
        path="/agent/quote",
        handler=deploy.quote,
        body=DeployBody,
        answer=Quoted,
        fails=(400, 408, 413, 503),
        signed=True,
        priced=True,
    ),
    Operation(
        method="PUT",
        path="/agent/uploads/{sha256}",
        handler=store_upload,
        body=FilesUpload,
        or_body=ZipUpload,
        answer=UploadStored,
        fails=(400, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/deploy/{projectId}/{deploymentId}/status",
        handler=status,
        answer=DeploymentProgress,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/deploy/{projectId}/{deploymentId}/logs",
        handler=show_logs,
        answer=LogBody,
        fails=(400, 403, 404, 503),
        signed=True,
        query=_OF_LOGS,
    ),
    Operation(
        method="POST",
        path="/agent/deploy/{projectId}/{deploymentId}/cancel",
        handler=deployments.cancel,
        answer=Cancelled,
        fails=(403, 404, 409, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/deployments",
        handler=deployments.list_deployments,
        answer=DeploymentList,
        fails=(400, 403, 404, 503),
        signed=True,
        query=_PAGE,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/deployments/{deploymentId}",
        handler=deployments.show_deployment,
        answer=DeploymentShown,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/rollback",
        handler=deployments.roll_back,
        body=RollbackBody,
        answer=Deployed,
        fails=(400, 402, 403, 404, 408, 409, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects",
        handler=projects.list_projects,
        answer=ProjectList,
        fails=(503,),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}",
        handler=projects.show_project,
        answer=ProjectShown,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="PATCH",
        path="/agent/projects/{projectId}",
        handler=projects.change_project,
        body=ChangeBody,
        answer=ProjectChanged,
        fails=(400, 402, 403, 404, 408, 409, 413, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}",
        handler=projects.delete_project,
        answer=ProjectDeleted,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/tokens",
        handler=manage_tokens.make_manage_token,
        answer=ManageTokenMade,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}/tokens",
        handler=manage_tokens.revoke_manage_tokens,
        answer=ManageTokensRevoked,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/logs",
        handler=show_project_logs,
        answer=ProjectLogBody,
        fails=(400, 403, 404, 503),
        signed=True,
        query=_OF_LOGS,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/usage",
        handler=show_usage,
        answer=ProjectUsage,
        fails=(400, 403, 404, 503),
        signed=True,
        query={
            "from": "not before this time, a day before `to` unless given",
            "to": "before this time, now unless given; ISO 8601 with an offset, or Unix ms",
            "by": "hour, or 5m for `spans`",
        },
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/domains",
        handler=domains.add_domain,
        body=DomainBody,
        answer=DomainItem,
        fails=(400, 403, 404, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/projects/{projectId}/domains",
        handler=domains.list_domains,
        answer=DomainList,
        fails=(403, 404, 503),
        signed=True,
    ),
    Operation(
        method="POST",
        path="/agent/projects/{projectId}/domains/{domain}/verify",
        handler=domains.verify_domain,
        answer=DomainItem,
        fails=(400, 403, 404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/projects/{projectId}/domains/{domain}",
        handler=domains.remove_domain,
        answer=DomainRemoved,
        fails=(400, 403, 404, 503),
        signed=True,
    ),
    Operation(
        method="PUT",
        path="/agent/webhook",
        handler=webhooks.set_webhook,
        body=WebhookBody,
        answer=WebhookMade,
        fails=(400, 408, 413, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/webhook",
        handler=webhooks.show_webhook,
        answer=WebhookShown,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/webhook",
        handler=webhooks.remove_webhook,
        answer=WebhookRemoved,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/events",
        handler=webhooks.list_events,
        answer=EventPage,
        fails=(400, 503),
        signed=True,
        query={
            "after": "the sequence to go on from; 0 by default",
            "limit": "how many at most, up to 200; 50 by default",
            "before": "the sequence before which they end, instead of `after`",
        },
    ),
    Operation(
        method="POST",
        path="/agent/events/{eventId}/redeliver",
        handler=webhooks.redeliver_event,
        answer=Redelivery,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="POST",
        path="/agent/links",
        handler=links.make_link,
        body=LinkBody,
        answer=LinkMade,
        fails=(400, 404, 408, 409, 413, 503),
        signed=True,
        body_optional=True,
    ),
    Operation(
        method="GET",
        path="/agent/links",
        handler=links.list_links,
        answer=LinkList,
        fails=(503,),
        signed=True,
    ),
    Operation(
        method="DELETE",
        path="/agent/links/{linkId}",
        handler=links.remove_link,
        answer=LinkRemoved,
        fails=(404, 503),
        signed=True,
    ),
    Operation(
        method="GET",
        path="/agent/balance/{address}",
        handler=public.balance,
        answer=Balances,
        fails=(400, 429, 502),
        query={"chain": "the chain's name; arbitrum by default"},
    ),
    Operation(
        method="GET", path="/agent/chains", handler=public.chains, answer=ChainList, fails=(429,)
    ),
    Operation(method="GET", path="/health", handler=public.health, answer=Health),
)
