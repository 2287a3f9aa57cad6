"""Two long-lived instances for crash tests: one with PostgreSQL, Redis, and an engine whose containers die
with it; one with SQLite, and an engine with live-restore."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.clock import Clock
from tests.chaos.rig import Rig, new_rig
from tests.fixtures.broker import start_broker
from tests.fixtures.engine import Engine
from tests.fixtures.postgresql import Cluster

PROGRAM = Path(__file__).with_name("program.sh")


@pytest.fixture(scope="package")
def crashed_image(engine: Engine) -> str:
    """The image of program.sh."""
    return engine.image(entrypoint=["/program"], files={"/program": (PROGRAM.read_bytes(), 0o755)})


@pytest.fixture(scope="package")
def clustered(crashed_image: str) -> Iterator[Rig]:
    """PostgreSQL, Redis, and an engine without live-restore."""
    cluster = Cluster.start(Path(tempfile.gettempdir()))
    try:
        broker = start_broker("redis")
        rig = new_rig(image=crashed_image, cluster=cluster, broker=broker, live_restore=False)
        yield rig
        rig.remove()
    finally:
        cluster.stop()


@pytest.fixture(scope="package")
def clock() -> Clock:
    """The clock of the embedded rig."""
    return Clock.build(Path(tempfile.mkdtemp(prefix="clock-")))


@pytest.fixture(scope="package")
def embedded(crashed_image: str, clock: Clock) -> Iterator[Rig]:
    """SQLite, no broker, and an engine with live-restore."""
    rig = new_rig(
        image=crashed_image, cluster=None, broker=None, live_restore=True, environment=clock.environment
    )
    yield rig
    rig.remove()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the cases: what was killed, at which state, the time to recover, and the number of attempts."""
    rows = []
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        known = dict(report.user_properties)
        if "victim" in known and report.when == "call":
            rows.append(
                f"| {known['database']} | {known['victim']} | {known['state']} | {report.outcome} "
                f"| {known.get('seconds', '')} | {known.get('attempts', '')} |"
            )
    if rows:
        terminalreporter.section("crashes")
        terminalreporter.write_line("| database | what died | state | outcome | seconds | attempts |")
        terminalreporter.write_line("|---|---|---|---|---|---|")
        for row in rows:
            terminalreporter.write_line(row)
