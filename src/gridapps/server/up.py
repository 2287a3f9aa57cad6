"""`gridapps-server up`: prepare the instance, and become the supervisor of its parts."""

import fcntl
import threading
from collections.abc import Callable

from django.core.management import call_command

from gridapps.config.environment import Environment
from gridapps.server import plan, surroundings
from gridapps.server.doctor import examine
from gridapps.server.instance import Unusable, accounts_of
from gridapps.server.parts import parts
from gridapps.server.supervise import end_leftovers

PATIENCE = 20.0  # seconds for what the last start left running: a worker gives its tasks back


def up(
    settings: Environment, *, works: bool, interrupted: threading.Event, say: Callable[[str], None]
) -> None:
    """Run the instance until SIGINT or SIGTERM, with or without a worker on this machine.

    `interrupted` says whether one of them came before. Raises Unusable with everything that is in the way.
    """
    data = settings.data.absolute()
    with (data / "run" / "instance.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Unusable(f"This instance runs already (data directory {data}).") from None
        end_leftovers(data / "run", patience=PATIENCE, say=say)
        if faults := [finding.fault for finding in examine(settings, works=works) if finding.fault]:
            raise Unusable("The instance cannot start:\n  " + "\n  ".join(faults))
        call_command("collectstatic", verbosity=0, interactive=False)
        for stale in (data / "run" / "bells").iterdir():
            stale.unlink()
        accounts = accounts_of(settings)
        planned = plan.Plan(
            data=str(data),
            lock=lock.fileno(),
            origin=settings.origin,
            accounts=accounts,
            parts=parts(settings, accounts, works=works),
        )
        if interrupted.is_set():
            say("Stopped before it was started.")
            return
        plan.execute(planned, surroundings.of_supervisor(settings))
