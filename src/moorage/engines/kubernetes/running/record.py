"""What the engine remembers of a deployment: a ConfigMap in the wallet's namespace.

It is in the cluster, beside the app: so it is not lost with a gateway's disk, and every
gateway reads the same.
"""

from typing import Self

import msgspec

from moorage.engines.engine import AppExit
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTANCE_LABEL,
    PART_LABEL,
    WALLET_LABEL,
    Part,
    record_name,
)
from moorage.engines.kubernetes.objects.pod import Manifest

_KEY = "record"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One deployment."""

    deployment_id: str
    namespace: str
    wallet: str  # the label's value
    stage: Stage
    image: str = ""  # by digest, once it is built
    has_ended: bool = False  # an app that was started, and was stopped since
    exit_code: int | None = None
    out_of_memory: bool = False

    @property
    def is_built(self) -> bool:
        """Whether there is an image to start."""
        return self.stage in (Stage.BUILT, Stage.STARTED)

    @property
    def exit(self) -> AppExit | None:
        """How the app ended; None if it was not stopped."""
        if not self.has_ended:
            return None
        return AppExit(exit_code=self.exit_code, out_of_memory=self.out_of_memory)

    def ended(self, how: AppExit) -> Self:
        """Returns the record after its app has ended."""
        return msgspec.structs.replace(
            self, has_ended=True, exit_code=how.exit_code, out_of_memory=how.out_of_memory
        )

    def started(self) -> Self:
        """Returns the record of an app that is being started."""
        return msgspec.structs.replace(
            self, stage=Stage.STARTED, has_ended=False, exit_code=None, out_of_memory=False
        )

    def manifest(self, instance: str) -> Manifest:
        """Returns the ConfigMap."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": record_name(self.deployment_id),
                "namespace": self.namespace,
                "labels": {
                    INSTANCE_LABEL: instance,
                    WALLET_LABEL: self.wallet,
                    DEPLOYMENT_LABEL: self.deployment_id,
                    PART_LABEL: Part.RECORD,
                },
            },
            "data": {_KEY: msgspec.json.encode(self).decode()},
        }


def parse(manifest: Manifest) -> Record:
    """Reads a ConfigMap; one that somebody has damaged is a build that failed."""
    metadata = manifest["metadata"]
    try:
        return msgspec.json.decode((manifest.get("data") or {})[_KEY], type=Record)
    except (KeyError, msgspec.DecodeError):
        labels = metadata.get("labels", {})
        return Record(
            deployment_id=labels.get(DEPLOYMENT_LABEL, ""),
            namespace=metadata["namespace"],
            wallet=labels.get(WALLET_LABEL, ""),
            stage=Stage.FAILED,
        )
