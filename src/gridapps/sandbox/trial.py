"""Running a container of the platform's own with the whole security profile, to find out whether the engine
can.
"""

import secrets
from datetime import UTC, datetime, timedelta

from gridapps.sandbox import profile
from gridapps.sandbox.engine import image_calls
from gridapps.sandbox.engine.calls import Engine
from gridapps.sandbox.log import Line
from gridapps.sandbox.log_following import LogFollower
from gridapps.sandbox.protocol import EntryPoint, Launch, Limits, Sandbox, SandboxError

WITHIN = 60.0  # seconds
_LIMITS = Limits(cpus=1, memory=64 * 1024**2, disk=1024**2, log=65536, inodes=64)
# Init, which every container gets, is the program as well: without arguments it prints its usage.
_PROGRAM = EntryPoint(command=["/.gridapps/init"])
_PRINTED = "usage: gridapps-init"


def try_out(sandbox: Sandbox, engine: Engine) -> None:
    """Run a program in an image without files, and remove both. Raises SandboxError: what failed."""
    name = f"check-{secrets.token_hex(8)}"
    image = image_calls.import_empty(engine)
    try:
        _run(sandbox, name, image)
    finally:
        sandbox.stop(name, grace=0)
        sandbox.remove(name)
        sandbox.drop(image)


def _run(sandbox: Sandbox, name: str, image: str) -> None:
    sandbox.start(
        Launch(
            name=name,
            image=image,
            arguments=b"{}",
            input=profile.HOSTS,
            input_name=profile.INPUT_NAME,
            run="check",
            task="check",
            limits=_LIMITS,
            deadline=datetime.now(UTC) + timedelta(seconds=WITHIN),
            entry=_PROGRAM,
        )
    )
    ended = sandbox.wait(name, timeout=WITHIN)
    if ended is None:
        raise SandboxError(f"A container of the doctor did not end within {WITHIN:.0f} s.")
    follower = LogFollower(lambda: sandbox.log(name), limit=_LIMITS.log)
    printed = " ".join(item.text for item in follower.read() if isinstance(item, Line))
    if _PRINTED not in printed:
        why = ended.not_started or f"It ended with exit code {ended.exit_code} and printed {printed[:500]!r}."
        raise SandboxError(f"A container of the doctor did not run its program. {why}")
