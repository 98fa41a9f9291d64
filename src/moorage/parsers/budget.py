"""What one job of a parser process may take, and a process in all."""

import msgspec

from moorage.parsers.job import Job, Unpack


class Budget(msgspec.Struct, frozen=True):
    """Processor time in seconds; a process that takes more is ended by the kernel."""

    plan_cpu_seconds: float = 2.0
    """To parse a body, and to plan. The largest honest uploads take a tenth of it."""

    unpack_cpu_seconds: float = 10.0
    """256 MiB take one to two; data that is made to be slow to inflate takes some more."""

    wall_times: float = 15.0
    """How many times its processor time a job may last, as the machine has other things to do."""

    max_memory_bytes: int = 512 * 1024 * 1024
    """Of address space, 40 MiB of which the interpreter takes."""

    spent_cpu_seconds: float = 60.0
    """What a process uses in all before another takes its place: by a job less than its limit."""

    spent_jobs: int = 5_000
    """How many jobs a process does before another takes its place, as memory falls to pieces."""

    def cpu_seconds(self, job: Job) -> float:
        """The processor time that a job may take."""
        return self.unpack_cpu_seconds if isinstance(job, Unpack) else self.plan_cpu_seconds

    def wall_seconds(self, job: Job) -> float:
        """How long a job may last."""
        return self.wall_times * self.cpu_seconds(job)

    def too_much_time(self, job: Job) -> str:
        """The limit of processor time, for a person."""
        return f"{self.cpu_seconds(job):g} s of processor time"

    def is_spent(self, *, jobs: int, cpu_seconds: float) -> bool:
        """Whether a process has done its part."""
        return jobs >= self.spent_jobs or cpu_seconds >= self.spent_cpu_seconds
