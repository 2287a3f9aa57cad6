"""Failures of the platform, as they are shown to the owner of a run.

Sockets, paths and error numbers of a node are for its log.
"""

from gridapps.sandbox.protocol import EngineUnavailable, NoSpace, SandboxError, Unexplained


def cause(error: Exception) -> str:
    """A sentence without what is internal to the node."""
    if isinstance(error, EngineUnavailable):
        return "Its container engine does not answer."
    if isinstance(error, NoSpace) and "/" in str(error):
        return "Its disk is full."
    if isinstance(error, OSError):
        return f"Its disk cannot be written: {error.strerror}." if error.strerror else "Its disk failed."
    if isinstance(error, Unexplained) or type(error) is SandboxError:
        # After the colon the engine's own words follow.
        what, colon, _ = str(error).partition(": ")
        return f"{what}. The worker's log says why." if colon else what
    return str(error)
