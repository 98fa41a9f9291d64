"""Projects: listed, shown whole, changed, deleted."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from moorage.records.project import ProjectStatus
from moorage.wire.shape import Body, CamelBody, Time


class ProjectItem(CamelBody, frozen=True, kw_only=True):
    """One project; `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: str
    description: str
    status: ProjectStatus
    url: str | None
    created_at: Time


class ProjectList(Body, frozen=True, kw_only=True):
    """The projects of a wallet, oldest first."""

    wallet: str
    count: int
    projects: list[ProjectItem]


VariableNames = Annotated[list[str], Meta(description="what they hold is never told")]

SuspensionCause = Annotated[
    str, Meta(extra_json_schema={"enum": ["out_of_credits", "project_blocked", "no_capacity"]})
]


class ProjectShown(CamelBody, frozen=True, kw_only=True):
    """One project whole; `url` is null without a successful deployment."""

    id: str
    name: str
    display_name: str
    description: str
    status: ProjectStatus
    url: str | None
    domains: Annotated[list[str], Meta(description="hosts of your own that lead to it")]
    created_at: Time
    serving_deployment_id: str | None
    deployment_in_progress: Annotated[
        str | None, Meta(description="the deployment under way; poll its status")
    ]
    run_env_names: VariableNames
    build_var_names: VariableNames
    health_path: str
    volume: Annotated[bool, Meta(description="whether it has a /data that is kept")]
    asleep: Annotated[bool, Meta(description="idle and stopped; a request wakes it")]
    burn_per_hour_usd: Annotated[float, Meta(description="what it burns now")]
    price_per_hour_usd: Annotated[
        float, Meta(description="what it burns from its first ready on, while it is not suspended")
    ]
    suspended_because: SuspensionCause | UnsetType = UNSET
    blocked_reason: Annotated[str, Meta(description="the operator's")] | UnsetType = UNSET


class ChangeBody(CamelBody, frozen=True, kw_only=True):
    """What is to be different; what is left out stays. null is what a project has at first."""

    display_name: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=2048)] | UnsetType | None = UNSET
    health_path: (
        Annotated[str, Meta(description="what must answer below 500", pattern="^/[!-~]*$")]
        | UnsetType
        | None
    ) = UNSET
    run_envs: (
        Annotated[
            dict[str, str | None],
            Meta(description="variables of the running app, null takes one away"),
        ]
        | UnsetType
    ) = UNSET
    build_vars: (
        Annotated[
            dict[str, str | None], Meta(description="variables of builds, from the next upload on")
        ]
        | UnsetType
    ) = UNSET
    volume: (
        Annotated[bool, Meta(description="true gives it a /data; none is taken away")] | UnsetType
    ) = UNSET
    restart: Annotated[bool, Meta(description="restart the app, changed or not")] | UnsetType = (
        UNSET
    )


class ProjectChanged(CamelBody, frozen=True, kw_only=True):
    """A project that was changed; `deploying` with the id of a deployment to poll."""

    project_id: str
    deployment_id: str | UnsetType = UNSET
    status: Literal["deploying", "changed"]
    message: str


class ProjectDeleted(CamelBody, frozen=True, kw_only=True):
    """A project that is gone."""

    project_id: str
    status: Literal["deleted"] = "deleted"
