"""What the SDK reads of an answer: all that the gateway puts there, and no more."""

import msgspec
import pytest

from moorage.api import (
    bodies,
    credit_bodies,
    deployment_bodies,
    log_bodies,
    project_bodies,
    usage_bodies,
)
from moorage.sdk import answers

PAIRS = (
    (answers.Deploying, bodies.Deployed),
    (answers.SupportedChain, bodies.ChainItem),
    (answers.Status, bodies.DeploymentProgress),
    (answers.Project, bodies.ProjectItem),
    (answers.Projects, bodies.ProjectList),
    (answers.ProjectShown, project_bodies.ProjectShown),
    (answers.ProjectChanged, project_bodies.ProjectChanged),
    (answers.DeploymentItem, deployment_bodies.DeploymentItem),
    (answers.Deployments, deployment_bodies.DeploymentList),
    (answers.Cancelled, deployment_bodies.Cancelled),
    (answers.LogLine, log_bodies.LogItem),
    (answers.LogPage, log_bodies.LogBody),
    (answers.BurningProject, credit_bodies.BurningProject),
    (answers.CreditEntry, credit_bodies.CreditEntry),
    (answers.BuildAllowance, credit_bodies.BuildAllowance),
    (answers.Credits, credit_bodies.Credits),
    (answers.ToppedUp, bodies.ToppedUp),
    (answers.Event, bodies.EventItem),
    (answers.EventPage, bodies.EventPage),
    (answers.WebhookMade, bodies.WebhookMade),
    (answers.LastDelivery, bodies.LastDelivery),
    (answers.WebhookShown, bodies.WebhookShown),
    (answers.WebhookRemoved, bodies.WebhookRemoved),
    (answers.DnsRecord, bodies.DnsRecord),
    (answers.Domain, bodies.DomainItem),
    (answers.Domains, bodies.DomainList),
    (answers.DomainRemoved, bodies.DomainRemoved),
    (answers.Used, usage_bodies.UsageItem),
    (answers.HourUsed, usage_bodies.UsageHourItem),
    (answers.Load, usage_bodies.LoadItem),
    (answers.Usage, usage_bodies.ProjectUsage),
    (answers.Deleted, bodies.ProjectDeleted),
    (answers.TokenBalance, bodies.TokenBalance),
    (answers.Balances, bodies.Balances),
    (answers.Chains, bodies.ChainList),
    (answers.Health, bodies.Health),
)


def keys(shape: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(shape)}


@pytest.mark.parametrize(("read", "answered"), PAIRS, ids=lambda shape: shape.__name__)
def test_client_passes_on_every_field_of_an_answer_and_makes_up_none(
    read: type[msgspec.Struct], answered: type[msgspec.Struct]
) -> None:
    assert keys(read) == keys(answered)
