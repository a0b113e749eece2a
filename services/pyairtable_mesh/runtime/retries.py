"""The one retry policy of the mesh, rendered to a gRPC service config here and to RDS by the control plane."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed call is tried again (gRFC A6); durations in seconds.

    Only UNAVAILABLE is retried: it is what a dying endpoint gives, and changes carry a `request_id`, so that one that
    was done is answered from its record and not done twice.
    """

    attempts: int = 4
    initial_backoff: float = 0.025
    max_backoff: float = 0.5
    multiplier: float = 2.0
    codes: tuple[str, ...] = ("UNAVAILABLE",)

    def service_config(self) -> dict[str, Any]:
        """The gRPC service config (JSON form) for channels that no control plane configures."""
        policy = {
            "maxAttempts": self.attempts,
            "initialBackoff": f"{self.initial_backoff:g}s",
            "maxBackoff": f"{self.max_backoff:g}s",
            "backoffMultiplier": self.multiplier,
            "retryableStatusCodes": list(self.codes),
        }
        return {
            "loadBalancingConfig": [{"round_robin": {}}],
            "methodConfig": [{"name": [{}], "retryPolicy": policy}],
        }
