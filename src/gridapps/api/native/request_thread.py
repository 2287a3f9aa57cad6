"""The thread that runs the synchronous steps of a request. A waiting request gives it back.

Django runs all of them in one thread, from the first step to the end of the request, and a thread holds a
connection to the database. A request that waits for a minute needs neither.
"""

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import connections

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
Application = Callable[[Any, Any, Any], Awaitable[None]]


class _RequestThread(Executor):
    """Starts a thread when there is something to do and none is running."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def submit(
        self, work: Callable[Arguments, Result], /, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Future[Result]:
        """Run it in the thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="request")
        return self._pool.submit(work, *args, **kwargs)

    def release(self) -> None:
        """Let the thread end. The next step gets a new one."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None


_current: ContextVar[_RequestThread] = ContextVar("request_thread")


def with_request_threads(application: Application) -> Application:
    """The same ASGI application; `release` works in its requests."""

    async def run(scope: Any, receive: Any, send: Any) -> None:
        thread = _RequestThread()
        token = _current.set(thread)
        try:
            async with ThreadSensitiveContext(executor=thread):
                await application(scope, receive, send)
        finally:
            thread.release()
            _current.reset(token)

    return run


async def release() -> None:
    """Give back the thread and the database connection of this request, until it next needs one."""
    await sync_to_async(connections.close_all)()
    if (thread := _current.get(None)) is not None:
        thread.release()
