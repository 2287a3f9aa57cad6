"""Set-up of all tests: settings, temporary directory, and shared fixtures."""

import os
import shutil
import signal

import django
import pytest
from hypothesis import settings as hypothesis_settings

from tests.fixtures.session import SESSION

pytest_plugins = [
    "tests.fixtures.tiers",
    "tests.fixtures.seed",
    "tests.fixtures.postgresql",
    "tests.fixtures.databases",
    "tests.fixtures.leftovers",
    "tests.fixtures.engine",
    "tests.fixtures.own_engine",
    "tests.fixtures.roots",
    "tests.fixtures.instance",
    "tests.fixtures.s3",
    "tests.fixtures.broker",
    "tests.fixtures.cast",
    "tests.fixtures.browser",
]

# The duration of an example depends on the load of the machine.
hypothesis_settings.register_profile("gate", deadline=None)
hypothesis_settings.load_profile("gate")
# A shell ignores interrupts in background jobs, and programs under test inherit this.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# On SIGTERM, the tests still remove what they have created.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# Settings in the environment of the caller do not apply to the tests.
for _name in [name for name in os.environ if name.startswith("GRIDAPPS_")]:
    del os.environ[_name]
os.environ["GRIDAPPS_DATA"] = str(SESSION / "data")
os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
django.setup()  # here, because the other conftest modules import models


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    shutil.rmtree(SESSION, ignore_errors=True)
