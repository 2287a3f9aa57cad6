"""What a run tells its owner of failures of the platform: nothing that is internal to a node."""

import errno

import pytest

from gridapps.sandbox.protocol import (
    EngineUnavailable,
    ImageUnavailable,
    NoSpace,
    RegistryUnavailable,
    SandboxError,
    Unexplained,
)
from gridapps.worker.causes import cause


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            EngineUnavailable(
                "The container engine at unix:///run/docker.sock does not answer ([Errno 111])."
            ),
            "Its container engine does not answer.",
        ),
        (
            EngineUnavailable("The launcher at /x/launcher.sock does not answer."),
            "Its container engine does not answer.",
        ),
        (NoSpace("The disk of the container engine (/var/lib/docker) is full."), "Its disk is full."),
        (NoSpace("The image does not fit on the disk."), "The image does not fit on the disk."),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/scratch/x"),
            "Its disk cannot be written: No space left on device.",
        ),
        (
            Unexplained("The engine could not start the container: dial unix /run/containerd.sock: refused"),
            "The engine could not start the container. The worker's log says why.",
        ),
        (
            SandboxError("The engine could not create the container: /var/lib/x is gone"),
            "The engine could not create the container. The worker's log says why.",
        ),
        (RegistryUnavailable("The registry h:1 does not answer."), "The registry h:1 does not answer."),
        (ImageUnavailable("The image has no ENTRYPOINT."), "The image has no ENTRYPOINT."),
    ],
)
def test_error_messages(error: Exception, told: str) -> None:
    assert cause(error) == told
