"""What a gateway lacks, and what fixes it: `moorage check` shows it, `moorage serve` obeys it."""

from moorage.operate.check.configuration import Finding
from moorage.operate.check.gateway import check_gateway

__all__ = ["Finding", "check_gateway"]
