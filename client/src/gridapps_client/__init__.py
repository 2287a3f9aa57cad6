"""Client of GRiD Apps: a typed library, and the `gridapps` command on top of it.

from gridapps_client import Client

with Client.configured() as client:
    run = client.wait(client.submit("ground", export="1").run_id)
"""

from gridapps_client.client import Client
from gridapps_client.errors import (
    BadAnswer,
    Conflict,
    FieldError,
    GridAppsError,
    NotFound,
    Unauthenticated,
    Unreachable,
    Untrusted,
)

__all__ = [
    "BadAnswer",
    "Client",
    "Conflict",
    "FieldError",
    "GridAppsError",
    "NotFound",
    "Unauthenticated",
    "Unreachable",
    "Untrusted",
]
