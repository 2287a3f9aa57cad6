"""The sandbox of this machine, as configured. It needs no database."""

from gridapps.config.environment import Environment
from gridapps.sandbox.docker import DockerSandbox


def make_sandbox(settings: Environment, *, instance: str) -> DockerSandbox:
    """The sandbox of this machine."""
    return DockerSandbox(
        engine=settings.engine,
        instance=instance,
        scratch=settings.data.absolute() / "scratch",
        quota=settings.quota,
        runtime=settings.runtime,
        users=settings.user_range(),
    )
