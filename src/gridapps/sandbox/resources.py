"""What a task may ask for: the smallest amounts of each resource, and sentences with units.

Below these amounts an engine refuses a container, takes the limit for none, or starts nothing of use. The
largest amounts are the instance's settings.
"""

from collections.abc import Mapping

KIB, MIB, GIB = 1024, 1024**2, 1024**3
LEAST: Mapping[str, float] = {
    "cpus": 0.1,  # processors; an engine counts in hundredths
    "memory": 16 * MIB,  # bytes; an engine wants 6 MiB, and init and the C library take some of it
    "disk": MIB,  # bytes
    "time": 1,  # seconds
}


def faults(wanted: Mapping[str, float], *, most: Mapping[str, float]) -> list[tuple[str, str]]:
    """For each resource that is out of bounds (also NaN) its name and a sentence."""
    return [
        (name, f"From {shown(name, LEAST[name])} to {shown(name, most[name])} on this instance.")
        for name, amount in wanted.items()
        if not LEAST[name] <= amount <= most[name]
    ]


def shown(name: str, amount: float) -> str:
    """An amount with its unit: "0.1 processors", "16 MiB", "60 s"."""
    if name == "cpus":
        return f"{amount:g} processors"
    if name == "time":
        return f"{amount:g} s"
    for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if amount >= size:
            return f"{amount / size:.4g} {unit}"
    return f"{amount:g} bytes"
