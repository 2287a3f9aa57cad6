"""The supervisor's question whether an application process answers.

The event loop answers by itself, without Django, a thread or the database, so it answers while these are
busy.
"""

from collections.abc import Awaitable, Callable
from typing import Any

PATH = "/internal/alive"  # nginx passes no request for it on
Application = Callable[[Any, Any, Any], Awaitable[None]]


def with_answer(application: Application) -> Application:
    """The same ASGI application, which also answers at PATH."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != PATH:
            await application(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return run
