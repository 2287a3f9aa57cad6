"""Calls to the other nodes, through the broker.

A thread of its own publishes them, so that a broker that is slow, dead or unreachable costs a request
nothing. Calls that pile up are one call, and one that fails is dropped: the nodes look by themselves.
"""

import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils.module_loading import import_string

if TYPE_CHECKING:  # an instance without a broker does without its memory
    from celery import Celery

logger = logging.getLogger(__name__)

CALL = "gridapps.ring"  # the name of the task
PAUSE = 1.0  # seconds after a failure in which the broker is left alone


class Caller:
    """Publishes for this process. The thread starts with the first call; it imports Celery, too."""

    def __init__(self, application: Callable[[], "Celery"]) -> None:
        self._application = application
        self._wanted = threading.Event()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self) -> None:
        """Ring every node soon. Returns at once."""
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
                # Once, not for each call: the broker may be away for hours.
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
    """The one of this process."""
    return Caller(lambda: import_string(settings.CELERY_APPLICATION))
