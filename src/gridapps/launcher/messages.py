"""The messages between worker and launcher: JSON, strictly decoded into these types."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from gridapps.sandbox import protocol
from gridapps.sandbox.protocol import Limits, SandboxError

LARGEST = 65536  # bytes of a message; a larger reply goes into a memory file, whose descriptor is passed
MAX_ARGUMENTS = 1024**2  # bytes
MAX_ENTRY = 1024**2  # bytes: what an image runs, as JSON
MAX_DESCRIPTORS = 3
LONGEST_WAIT = 60.0  # seconds of one call; the caller repeats it

Name = Annotated[str, Meta(max_length=200)]  # the service checks it further
Reference = Annotated[str, Meta(max_length=512)]
Token = Annotated[str, Meta(max_length=16384, pattern=r"^[\x21-\x7e]*\Z")]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,99}\Z")]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Label = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x20-\x7e]*\Z")]
Labels = Annotated[dict[Label, Label], Meta(max_length=16)]
Moment = Annotated[datetime, Meta(tz=True)]


class Message(msgspec.Struct, tag_field="call", tag=str.lower, forbid_unknown_fields=True, kw_only=True):
    """A call of `protocol.Sandbox`."""


class Check(Message):
    pass


class Version(Message):
    pass


class Held(Message):
    pass


class Changed(Message):
    """Whether the engine went away or came back."""

    timeout: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)]


class Pull(Message):
    image: Reference
    token: Token
    timeout: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)]


class Layers(Message):
    image: Reference


class Drop(Message):
    image: Reference


class Start(Message):
    """Carries three descriptors: the input, opened for reading, and sealed memory files with the arguments
    and with what the image runs (`EntryPoint` or null, as JSON)."""

    name: Name
    image: Reference
    input_name: FileName
    run: Identifier
    task: Identifier
    limits: Limits
    deadline: Moment
    labels: Labels


class Wait(Message):
    name: Name
    timeout: Annotated[float, Meta(ge=0, le=LONGEST_WAIT)]


class Stop(Message):
    name: Name
    grace: Annotated[float, Meta(ge=0, le=600)]


class Log(Message):
    """The reply carries a descriptor, if there is a log."""

    name: Name


class Outputs(Message):
    """The reply carries a descriptor."""

    name: Name


class Remove(Message):
    name: Name


class Residents(Message):
    labels: Labels


AnyMessage = (
    Check
    | Version
    | Held
    | Changed
    | Pull
    | Layers
    | Drop
    | Start
    | Wait
    | Stop
    | Log
    | Outputs
    | Remove
    | Residents
)


class Reply(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The result of a call, or what it raised. `spilled`: the reply is in the memory file that is passed."""

    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    text: str = ""
    spilled: bool = False


def _errors() -> dict[str, type[Exception]]:
    """The errors that a sandbox may raise, by name."""
    found: dict[str, type[Exception]] = {"KeyError": KeyError, "ValueError": ValueError}
    for each in vars(protocol).values():
        if isinstance(each, type) and issubclass(each, SandboxError):
            found[each.__name__] = each
    return found


ERRORS = _errors()


def named(error: Exception) -> str:
    """The name of an error in a reply: that of its class, or of the nearest base class in ERRORS."""
    return next((base.__name__ for base in type(error).__mro__ if base.__name__ in ERRORS), "SandboxError")
