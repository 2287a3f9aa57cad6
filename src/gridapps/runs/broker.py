"""Rings the workers of other nodes, through the broker.

A thread publishes the calls, so a slow or unreachable broker does not delay requests. Calls that are waiting
are merged into one, and a call that fails is dropped: workers poll as well.
"""

import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.module_loading import import_string

if TYPE_CHECKING:  # without a broker Celery is never imported, which saves memory
    from celery import Celery

logger = logging.getLogger(__name__)

CALL = "gridapps.ring"  # name of the Celery task
PAUSE = 1.0  # seconds between a failure and the next attempt


class Caller:
    """Publishes for this process. The thread starts with the first call, and imports Celery."""

    def __init__(self, application: Callable[[], "Celery"]) -> None:
        self._application = application
        self._wanted = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self) -> None:
        """Ring every node. Returns at once; the thread publishes."""
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._publish, name="broker", daemon=True)
                self._thread.start()
        self._wanted.set()

    def _publish(self) -> None:
        away = False
        while True:
            self._wanted.wait()
            self._wanted.clear()
            try:
                self._application().send_task(CALL)
            except Exception as error:
                # Logged once: the broker may be unreachable for hours.
                if not away:
                    logger.warning("The broker does not answer (%s): nodes look by themselves.", error)
                away = True
                threading.Event().wait(PAUSE)
            else:
                if away:
                    logger.info("The broker answers again.")
                away = False


@functools.cache
def caller() -> Caller:
    """The caller of this process."""
    return Caller(lambda: import_string(settings.CELERY_APPLICATION))
