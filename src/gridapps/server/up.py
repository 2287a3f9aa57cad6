"""`gridapps-server up`: prepare the instance and become the supervisor of its parts."""

import contextlib
import signal
import threading
from collections.abc import Callable, Set
from pathlib import Path

from django.core.management import call_command

from gridapps.config.environment import Environment
from gridapps.server import plan, surroundings
from gridapps.server.doctor import examine
from gridapps.server.instance import Unusable, accounts_of, alone
from gridapps.server.parts import parts
from gridapps.server.supervise import STOPPED_EARLY, end_leftovers

PATIENCE = 20.0  # seconds for leftovers of the last start: a worker gives back its tasks


def up(
    settings: Environment, *, works: bool, interrupted: threading.Event, say: Callable[[str], None]
) -> None:
    """Run the instance until SIGINT or SIGTERM, with or without a worker on this machine.

    `interrupted` is set if one has arrived already. Raises Unusable with all faults that `doctor` finds.
    """
    data = settings.data.absolute()
    with alone(data) as lock:
        end_leftovers(data / "run", patience=PATIENCE, say=say)
        if faults := [finding.fault for finding in examine(settings, works=works) if finding.fault]:
            raise Unusable("The instance cannot start:\n  " + "\n  ".join(faults))
        call_command("collectstatic", verbosity=0, interactive=False)
        for stale in (data / "run" / "bells").iterdir():
            with contextlib.suppress(OSError):  # a directory, which cannot be unlinked, wakes no process
                stale.unlink()
        accounts = accounts_of(settings)
        planned = plan.Plan(
            data=str(data),
            lock=lock,
            origin=settings.origin,
            min_free_disk=settings.min_free_disk,
            part_timeout=settings.part_timeout,
            accounts=accounts,
            parts=parts(settings, accounts, works=works),
        )
        _forget_others(data / "run", {part.name for part in planned.parts})
        environment = surroundings.environment_of_supervisor(settings)
        signal.pthread_sigmask(signal.SIG_BLOCK, plan.SIGNALS)
        if interrupted.is_set():
            say(STOPPED_EARLY)
            return
        plan.execute(planned, environment)


def _forget_others(run: Path, names: Set[str]) -> None:
    """Remove the lock files of parts that an earlier start had, so that `status` does not miss them."""
    for held in run.glob("*.held"):
        if held.stem not in names:
            held.unlink()
