"""`python -m gridapps.launcher CONFIGURATION`: serve until SIGTERM or SIGINT."""

import signal
import sys
from contextlib import closing
from pathlib import Path

import msgspec

from gridapps.launcher import log_format
from gridapps.launcher.configuration import LauncherConfiguration
from gridapps.launcher.confinement import confine
from gridapps.launcher.node_policy import Policy
from gridapps.launcher.server import AlreadyRuns, Server
from gridapps.launcher.service import Service
from gridapps.sandbox.docker import DockerSandbox


def main(configuration: LauncherConfiguration) -> None:
    """Serve the worker of a node."""
    log_format.write(configuration.log_format)
    confine(network=not configuration.engine.startswith("unix:"))
    sandbox = DockerSandbox(
        engine=configuration.engine,
        instance=configuration.instance,
        scratch=Path(configuration.scratch),
        quota=configuration.quota,
        runtime=configuration.runtime,
        users=range(configuration.user_ids[0], configuration.user_ids[1] + 1),
    )
    policy = Policy(
        registries=configuration.registries,
        cpus=configuration.cpus,
        memory=configuration.memory,
        disk=configuration.disk,
        outputs=configuration.outputs,
        containers=configuration.containers,
    )
    with closing(sandbox):
        owner = configuration.owner
        service = Service(sandbox, policy=policy, inputs=Path(configuration.inputs), owner=owner)
        path, connections = Path(configuration.socket), configuration.connections
        try:
            server = Server(path, owner=owner, connections=connections, service=service)
        except AlreadyRuns as error:
            sys.exit(str(error))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.close())
        server.serve()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=LauncherConfiguration))
