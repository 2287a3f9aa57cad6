"""Where the tests begin: settings and a temporary directory of their own, and the fixtures that parts share.

`TEST_DATABASE=postgresql` runs what uses the database, and nothing else, on a PostgreSQL cluster of its own.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest
from django.conf import settings

if TYPE_CHECKING:
    from tests.fixtures.postgresql import Cluster

pytest_plugins = [
    "tests.fixtures.leftovers",
    "tests.fixtures.postgresql",
    "tests.fixtures.engine",
    "tests.fixtures.own_engine",
    "tests.fixtures.instance",
    "tests.fixtures.s3",
    "tests.fixtures.broker",
    "tests.fixtures.cast",
]

# Everything that a test makes lies below one directory, so that what it leaves can be found. The path is
# short because unix sockets' are limited; others may pass through it because nginx and PostgreSQL must.
SESSION = Path(tempfile.mkdtemp(prefix="gt-", dir=tempfile.gettempdir()))
SESSION.chmod(0o711)
tempfile.tempdir = os.environ["TMPDIR"] = str(SESSION)

# A shell has interrupts ignored in what it puts into the background, and programs under test inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The settings of whoever runs the tests are none of the tests' business.
for _name in [name for name in os.environ if name.startswith("GRIDAPPS_")]:
    del os.environ[_name]
os.environ["GRIDAPPS_DATA"] = str(SESSION / "data")
os.environ["DJANGO_SETTINGS_MODULE"] = "gridapps.config.settings"
_cluster: "Cluster | None" = None
if os.environ.get("TEST_DATABASE") == "postgresql":
    pytest.register_assert_rewrite("tests.fixtures.postgresql")
    from tests.fixtures.postgresql import Cluster

    _cluster = Cluster.start(SESSION)
    os.environ["GRIDAPPS_DATABASE"] = _cluster.create_database("unit")
django.setup()  # here, because the other conftest modules import models
if _cluster is None:
    # In a file, as in an instance: threads that share a database in memory lock each other out.
    settings.DATABASES["default"]["TEST"]["NAME"] = SESSION / "test.sqlite3"


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None,  # noqa: ARG001 - the plugin's own, which comes first
    django_db_blocker: Any,
) -> None:
    """Tests with transactions of their own empty the database after them, the audit as well."""
    from django.db import connection

    from gridapps.audit import guard

    with django_db_blocker.unblock():
        guard.remove(connection)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _cluster is None:
        return
    with_database = [item for item in items if item.get_closest_marker("django_db") or _uses_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in with_database])
    items[:] = with_database


def _uses_database(item: pytest.Item) -> bool:
    return not {"db", "transactional_db"}.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    if _cluster is not None:
        _cluster.stop()
    shutil.rmtree(SESSION, ignore_errors=True)
