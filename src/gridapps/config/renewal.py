"""Django's settings in a forked process whose environment differs from its parent's."""

import contextlib
import importlib
import os

from django.conf import settings
from django.db import connections


def renew() -> None:
    """Read all settings again, from this process's environment and with its rights.

    The process must have one thread, and must not have connected to a database or cached a result that
    depends on the former settings.
    """
    module = importlib.reload(importlib.import_module(os.environ["DJANGO_SETTINGS_MODULE"]))
    for name in filter(str.isupper, dir(module)):
        setattr(settings, name, getattr(module, name))
    connections.settings = connections.configure_settings(settings.DATABASES)
    for name in connections.settings:
        with contextlib.suppress(AttributeError):  # not used yet
            del connections[name]
