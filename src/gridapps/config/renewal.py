"""Django's settings of a process that was forked from one with another environment."""

import contextlib
import importlib
import os

from django.conf import settings
from django.db import connections


def renew() -> None:
    """Read all settings again, from this process's environment and with its rights.

    The process has one thread. No database may have been connected to, and no function whose result is kept
    may have been called with the former settings.
    """
    module = importlib.reload(importlib.import_module(os.environ["DJANGO_SETTINGS_MODULE"]))
    for name in filter(str.isupper, dir(module)):
        setattr(settings, name, getattr(module, name))
    connections.settings = connections.configure_settings(settings.DATABASES)
    for name in connections.settings:
        with contextlib.suppress(AttributeError):  # it was not used yet
            del connections[name]
