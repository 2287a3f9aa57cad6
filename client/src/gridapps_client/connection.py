"""The connection of a client to an instance: what the classes of calls have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gridapps_client.calls import Calls
from gridapps_client.transport import Transport


class Connection:
    """An open connection to an instance, as one user.

    `ca`: file with the certificate authority to trust instead of the system's. `timeout` in seconds. `renew`
    is called once when the token is refused, and returns a new one or None.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: str | Path | None = None,
        timeout: float = 30.0,
        renew: Callable[[], str | None] | None = None,
    ) -> None:
        self.transport = Transport(url, token=token, ca=ca, timeout=timeout, renew=renew)
        self._calls = Calls(self.transport)

    @property
    def url(self) -> str:
        """`https://host[:port]`."""
        return self.transport.url

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()
