"""Why deployments fail, as a word for machines."""

from enum import StrEnum


class FailureCause(StrEnum):
    """Why a deployment ended before `ready`: the contract's `reason_code`."""

    UPLOAD_INVALID = "upload_invalid"
    PLAN_NOT_FOUND = "plan_not_found"
    INSTALL_FAILED = "install_failed"
    BUILD_FAILED = "build_failed"
    BUILD_TIMEOUT = "build_timeout"
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"
    CRASHED = "crashed"
    PORT_NOT_BOUND = "port_not_bound"
    PORT_MISMATCH = "port_mismatch"
    UNHEALTHY = "unhealthy"
    INTERRUPTED = "interrupted"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    BLOCKED = "project_blocked"
    PAUSED = "project_paused"
    OUT_OF_CREDITS = "out_of_credits"
    NO_CAPACITY = "no_capacity"
