"""The least of each resource that a task may ask for, and amounts with units.

With less an engine refuses the container, ignores the limit, or starts nothing of use. The instance's
settings define the maximums.
"""

from collections.abc import Mapping

KIB, MIB, GIB, TIB = 1024, 1024**2, 1024**3, 1024**4
LEAST: Mapping[str, float] = {
    "cpus": 0.1,  # processors; an engine counts in hundredths
    "memory": 16 * MIB,  # bytes; an engine requires 6 MiB, and init and the C library need some of them
    "disk": MIB,  # bytes
    "time": 1,  # seconds
}


def faults(wanted: Mapping[str, float], *, most: Mapping[str, float]) -> list[tuple[str, str]]:
    """The name of each resource that is out of bounds (or NaN), with a sentence."""
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
    for unit, size in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if amount >= size:
            count = amount / size
            return f"{count:.4g} {unit}" if count < 1000 else f"{count:.0f} {unit}"
    return f"{amount:g} bytes"
