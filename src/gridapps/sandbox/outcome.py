"""The facts about the end of a container, from init's report or, without one, from the engine."""

import time
from datetime import UTC, datetime

from gridapps.sandbox.containers import Containers
from gridapps.sandbox.engine.responses import ContainerState
from gridapps.sandbox.protocol import Ended, SandboxError, Usage
from gridapps.sandbox.report import Report, why_not_started
from gridapps.sandbox.workspace import Workspace

_INIT_FAILED = 125  # exit code of init when it could not prepare the start
_KILLED = 137
_NOTED_WITHIN = 10.0  # seconds; the engine notes an end later than the kernel


def outcome(containers: Containers, name: str) -> Ended:
    """How a container ended. Raises KeyError when neither a report nor the container exists."""
    space = containers.space(name)
    report = space.end_report()
    if report is not None:
        return _reported(report, space)
    if space.forced.exists():
        return _unreported(
            space,
            exit_code=_KILLED,
            started_at=datetime.fromtimestamp(space.launch_file.stat().st_mtime, UTC),
            ended_at=datetime.fromtimestamp(space.forced.stat().st_mtime, UTC),
        )
    state = _final_state(containers, name)
    if not space.grid.is_dir():
        raise SandboxError(f"The workspace of {name} is gone: the node was restarted.")
    if state.exit_code == _INIT_FAILED:
        raise SandboxError(f"The first process of {name} could not prepare the start.")
    return _unreported(
        space,
        exit_code=state.exit_code,
        started_at=state.started_at,
        ended_at=state.finished_at,
        out_of_memory=state.oom_killed,
    )


def _reported(report: Report, space: Workspace) -> Ended:
    known, used = space.known(), space.disk_used()
    # A large write may fail while small ones still fit; init then sees no full disk.
    full = report.disk_full or used - space.log_size() >= known["disk"] or space.over_quota.exists()
    return Ended(
        exit_code=report.exit_code,
        started_at=report.started,
        ended_at=report.ended,
        out_of_memory=report.oom_kills > 0,
        out_of_disk=full,
        out_of_processes=report.forks_refused > 0,
        log_dropped=report.log_dropped,
        output_dropped=report.output_dropped,
        not_started=why_not_started(report, entry_point=known["entry_point"], workdir=known["workdir"]),
        interrupted=report.asked,
        tmp_bytes=report.tmp,
        shm_bytes=report.shm,
        usage=Usage(cpu_seconds=report.cpu_seconds, memory_bytes=report.memory, disk_bytes=used),
    )


def _unreported(
    space: Workspace, *, exit_code: int, started_at: datetime, ended_at: datetime, out_of_memory: bool = False
) -> Ended:
    """Init was killed, or could not begin."""
    return Ended(
        exit_code=exit_code,
        started_at=started_at,
        ended_at=ended_at,
        out_of_memory=out_of_memory,
        out_of_disk=space.over_quota.exists(),
        out_of_processes=False,
        log_dropped=0,
        not_started="",
        interrupted=True,
        usage=Usage(cpu_seconds=0.0, memory_bytes=0, disk_bytes=space.disk_used()),
    )


def _final_state(containers: Containers, name: str) -> ContainerState:
    end = time.monotonic() + _NOTED_WITHIN
    while True:
        container = containers.engine.container(containers.engine_name(name))
        if container is None:
            raise KeyError(name)
        if not container.state.running or time.monotonic() > end:
            return container.state
        time.sleep(0.05)
