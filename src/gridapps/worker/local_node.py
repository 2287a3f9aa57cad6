"""The node that a worker runs on."""

from dataclasses import dataclass

from gridapps.runs.queue import Claim
from gridapps.sandbox.protocol import MAX_OUTPUTS, Sandbox
from gridapps.worker.node_images import NodeImages


@dataclass(frozen=True, kw_only=True)
class LocalNode:
    """Its name, its engine with the images there, and the names and labels of its containers."""

    name: str
    instance: str
    sandbox: Sandbox
    images: NodeImages
    max_log: int  # bytes
    max_output_files: int = MAX_OUTPUTS  # of one task

    def labels(self) -> dict[str, str]:
        return {"gridapps.instance": self.instance, "gridapps.node": self.name}

    def container(self, claim: Claim) -> str:
        return f"{claim.task.hex}-{claim.attempt}"
