"""The types into which engines and registries, which are written in Go, decode manifests and configurations.

Their decoder fails on a value of another type. That would happen on a node, with an error text that the
image's author influences. So each document is checked against the same types at the push. Null means absent.
Unknown names are ignored unless they are another spelling of a known one. Sources: `image.Image` and
`container.Config` of moby 20.10, the OCI image specification 1.1.
"""

import re
import signal
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel, to_pascal

from gridapps.oci.documents import Document, Invalid

MAX_REASONS = 10
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,30})?(Z|[+-]\d\d:\d\d)", re.ASCII)
_SIGNALS = frozenset(
    {each.name.removeprefix("SIG") for each in signal.Signals}
    | {str(number) for number in range(1, 65)}
    | {"STKFLT", *(f"RTMIN+{number}" for number in range(16)), *(f"RTMAX-{number}" for number in range(15))}
)
_PORT = re.compile(r"\d{1,5}(-\d{1,5})?(/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_WORDS = {
    "string_type": "is not a string", "list_type": "is not a list", "dict_type": "is not an object",
    "model_type": "is not an object", "model_attributes_type": "is not an object",
    "int_type": "is not a whole number", "bool_type": "is neither true nor false",
}  # fmt: skip


def _time(text: str) -> str:
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        datetime.fromisoformat(f"{found[1]}{'+00:00' if found[3] == 'Z' else found[3]}")
    except ValueError:
        raise ValueError("is not a time such as 2026-01-31T12:00:00Z") from None
    return text


def _word(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL in it")
    return text


def _variable(text: str) -> str:
    name, equals, _ = _word(text).partition("=")
    if not name or not equals:
        raise ValueError("is not NAME=value")
    return text


def _directory(text: str) -> str:
    encoded = _word(text).encode()
    if text and not text.startswith("/"):
        raise ValueError("is not an absolute path")
    if len(encoded) > 4000 or any(len(part) > 255 for part in encoded.split(b"/")):
        raise ValueError("is longer than a path can be")
    return text


def _signal(text: str) -> str:
    if text and text.upper().removeprefix("SIG") not in _SIGNALS:
        raise ValueError("is not a signal such as SIGTERM")
    return text


def _ports(ports: dict[str, Any]) -> dict[str, Any]:
    for port in ports:
        if not _PORT.fullmatch(port):
            raise ValueError(f"has {port[:50]!r}, which is not a port such as 80/tcp")
    return ports


_Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_Time = Annotated[str, AfterValidator(_time)]
_Word = Annotated[str, AfterValidator(_word)]
_Set = dict[str, dict[str, Any] | None]  # a map to empty objects


class _Shape(BaseModel):
    """An object of a document."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", validate_by_name=False)

    @model_validator(mode="before")
    @classmethod
    def _other_spellings(cls, value: Any) -> Any:
        if isinstance(value, dict):
            names = (field.alias or name for name, field in cls.model_fields.items())
            known = {name.casefold(): name for name in names}
            for name in value:
                if known.get(name.casefold(), name) != name:
                    raise ValueError(f"has {name[:100]!r} where only {known[name.casefold()]!r} is meant")
        return value


class _Health(_Shape):
    model_config = ConfigDict(alias_generator=to_pascal)

    test: list[str] | None = None
    interval: _Int | None = None
    timeout: _Int | None = None
    start_period: _Int | None = None
    start_interval: _Int | None = None
    retries: _Int | None = None


class ContainerConfiguration(_Shape):
    """How a container is run."""

    model_config = ConfigDict(alias_generator=to_pascal)

    hostname: _Word | None = None
    domainname: _Word | None = None
    user: Annotated[str, AfterValidator(_word), Field(max_length=256)] | None = None
    attach_stdin: bool | None = None
    attach_stdout: bool | None = None
    attach_stderr: bool | None = None
    exposed_ports: Annotated[_Set, AfterValidator(_ports)] | None = None
    tty: bool | None = None
    open_stdin: bool | None = None
    stdin_once: bool | None = None
    env: list[Annotated[str, AfterValidator(_variable)]] | None = None
    cmd: list[_Word] | None = None
    healthcheck: _Health | None = None
    args_escaped: bool | None = None
    image: str | None = None
    volumes: dict[_Word, dict[str, Any] | None] | None = None
    working_dir: Annotated[str, AfterValidator(_directory)] | None = None
    entrypoint: list[_Word] | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: Annotated[str, AfterValidator(_signal)] | None = None
    stop_timeout: Annotated[int, Field(ge=-1, le=86400)] | None = None
    shell: list[str] | None = None


class _History(_Shape):
    created: _Time | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class _RootFS(_Shape):
    type: str | None = None
    diff_ids: list[str] | None = None


class ImageConfiguration(_Shape):
    """An image configuration."""

    id: str | None = None
    parent: str | None = None
    comment: str | None = None
    created: _Time | None = None
    container: str | None = None
    container_config: ContainerConfiguration | None = None
    docker_version: str | None = None
    author: str | None = None
    config: ContainerConfiguration | None = None
    architecture: str | None = None
    variant: str | None = None
    os: str | None = None
    size: Annotated[_Int | None, Field(alias="Size")] = None
    rootfs: _RootFS | None = None
    history: list[_History] | None = None
    os_version: Annotated[str | None, Field(alias="os.version")] = None
    os_features: Annotated[list[str] | None, Field(alias="os.features")] = None


class _Platform(_Shape):
    os: str | None = None
    architecture: str | None = None
    variant: str | None = None
    os_version: Annotated[str | None, Field(alias="os.version")] = None
    os_features: Annotated[list[str] | None, Field(alias="os.features")] = None
    features: list[str] | None = None


class _Descriptor(_Shape):
    model_config = ConfigDict(alias_generator=to_camel)

    media_type: str | None = None
    digest: str | None = None
    size: _Int | None = None
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    data: str | None = None
    platform: _Platform | None = None
    artifact_type: str | None = None


class ManifestOrIndex(_Shape):
    """A manifest or an index."""

    model_config = ConfigDict(alias_generator=to_camel)

    schema_version: _Int | None = None
    media_type: str | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    manifests: list[_Descriptor] | None = None
    subject: _Descriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


_Any = TypeVar("_Any", bound=_Shape)


def typed(document: Document, shape: type[_Any]) -> _Any:
    """The document in one of these types. Raises Invalid with a reason for each field of another type."""
    try:
        return shape.model_validate(document.plain())
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)[:MAX_REASONS]
        reasons = [
            _reason(document.what, each["loc"], each.get("ctx", {}).get("error") or _WORDS.get(each["type"]))
            for each in faults
        ]
        raise Invalid(*reasons) from None


def _reason(what: str, parts: Sequence[object], words: object) -> str:
    place = ".".join(str(part)[:60] for part in parts)
    place = place if place.isprintable() else repr(place)
    words = words or "is out of range"
    return f"{place} in {what[:1].lower()}{what[1:]} {words}." if place else f"{what} {words}."
