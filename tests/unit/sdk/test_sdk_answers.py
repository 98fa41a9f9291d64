"""What the SDK reads of an answer: all that the gateway puts there, and no more."""

import msgspec
import pytest

from moorage.sdk import answers
from moorage.wire import credits as credit
from moorage.wire import (
    deploy,
    deployments,
    domains,
    events,
    logs,
    projects,
    public,
    usage,
)

PAIRS = (
    (answers.Deploying, deploy.Deployed),
    (answers.SupportedChain, public.ChainItem),
    (answers.Status, deployments.DeploymentProgress),
    (answers.Project, projects.ProjectItem),
    (answers.Projects, projects.ProjectList),
    (answers.ProjectShown, projects.ProjectShown),
    (answers.ProjectChanged, projects.ProjectChanged),
    (answers.DeploymentItem, deployments.DeploymentItem),
    (answers.Deployments, deployments.DeploymentList),
    (answers.Cancelled, deployments.Cancelled),
    (answers.LogLine, logs.LogItem),
    (answers.LogPage, logs.LogBody),
    (answers.BurningProject, credit.BurningProject),
    (answers.CreditEntry, credit.CreditEntry),
    (answers.BuildAllowance, credit.BuildAllowance),
    (answers.Credits, credit.Credits),
    (answers.ToppedUp, credit.ToppedUp),
    (answers.Event, events.EventItem),
    (answers.EventPage, events.EventPage),
    (answers.WebhookMade, events.WebhookMade),
    (answers.LastDelivery, events.LastDelivery),
    (answers.WebhookShown, events.WebhookShown),
    (answers.WebhookRemoved, events.WebhookRemoved),
    (answers.DnsRecord, domains.DnsRecord),
    (answers.Domain, domains.DomainItem),
    (answers.Domains, domains.DomainList),
    (answers.DomainRemoved, domains.DomainRemoved),
    (answers.Used, usage.UsageItem),
    (answers.HourUsed, usage.UsageHourItem),
    (answers.Load, usage.LoadItem),
    (answers.Usage, usage.ProjectUsage),
    (answers.Deleted, projects.ProjectDeleted),
    (answers.TokenBalance, public.TokenBalance),
    (answers.Balances, public.Balances),
    (answers.Chains, public.ChainList),
    (answers.Health, public.Health),
)


def keys(shape: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(shape)}


@pytest.mark.parametrize(("read", "answered"), PAIRS, ids=lambda shape: shape.__name__)
def test_client_passes_on_every_field_of_an_answer_and_makes_up_none(
    read: type[msgspec.Struct], answered: type[msgspec.Struct]
) -> None:
    assert keys(read) == keys(answered)
