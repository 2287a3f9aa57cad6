"""An application process: uvicorn, behind nginx."""

import resource
from pathlib import Path

import uvicorn

_FILES = 16384


def serve(socket: Path) -> None:
    """Serve the pages and the API at a unix socket until interrupted."""
    # Each waiting client has a connection. Most systems limit services to 1,024 files.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (_FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES), hard)
    )
    uvicorn.run(
        "gridapps.config.asgi:application",
        uds=str(socket),
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,  # set by Django's settings
        timeout_graceful_shutdown=3,
        timeout_keep_alive=75,
        server_header=False,
    )
