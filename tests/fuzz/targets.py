"""Targets of fuzzing: each takes any bytes, and fails when the code that reads them is at fault.

A reader may refuse input with its own error. Any other exception, a result that breaks the reader's contract,
or too much time is a fault. docs/decisions/0140-attacks-and-fuzzing.md says why these targets were chosen.
"""

import contextlib
import ipaddress
import json
import logging
import os
import re
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import laspy
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ed25519

from gridapps.api.errors import ApiError
from gridapps.api.native import parsing, ranges
from gridapps.arguments import schemas
from gridapps.config import lines
from gridapps.exports import headers
from gridapps.exports.errors import BadPointCloud
from gridapps.hooks.targets import BadTarget, Rules, site
from gridapps.oci import signatures, sigstore_bundles
from gridapps.oci.documents import Invalid
from gridapps.pushes import permits
from gridapps.pushes.permits import Denied
from gridapps.sandbox.log import Line
from gridapps.sandbox.log_following import LogFollower
from tests.registry.built import encoded
from tests.registry.signing import bundle, envelope, statement

SIGNER = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
SIGNED = "sha256:" + "1" * 64
STATEMENT = encoded(statement(SIGNED))
SECRET = "c2VjcmV0LXRva2VuLW9mLWEtdXNlcg"


def pointcloud(data: bytes) -> None:
    """The header of a point cloud file, which is checked before any library reads it."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(BadPointCloud):
            found = headers.read(file.fileno(), size=len(data))
            assert found.points > 0
            least = 1 if found.compressed else found.points * found.record_length
            assert least <= len(data), "there is room for what the header promises"


def log_line(data: bytes) -> None:
    """A message and an exception of a library, with a token in them."""
    text = data.decode("utf-8", "surrogateescape")
    for shown, limit in (
        (lines.message(text), lines.MAX_MESSAGE),
        (lines.exception(text), lines.MAX_EXCEPTION),
    ):
        assert len(shown) < limit + 100
    told = lines.message(f"Authorization: Bearer {SECRET} {text}")
    assert SECRET not in told
    assert SECRET not in lines.exception(f"{text} postgresql://user:{SECRET}@host/{text}")
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s", (text,), None)
    formatted = lines.Json().format(record)
    assert "\n" not in formatted, "a line is one line"
    assert json.loads(formatted)["level"] == "INFO"


def program_log(data: bytes) -> None:
    """The log of a program, which can write any bytes to the file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        path.write_bytes(data)
        for record in LogFollower(lambda: os.open(path, os.O_RDONLY), limit=4096).read():
            text = record.text if isinstance(record, Line) else record.message
            assert text.replace("\t", "").isprintable() or not re.search(
                r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", text
            )
            text.encode()
            assert isinstance(record, Line) or 0 <= record.fraction <= 1


def byte_range(data: bytes) -> None:
    """The Range header of a download."""
    text, size = data.decode("latin-1"), len(data) * 7 + 1
    found = ranges.requested({"Range": text}, size=size, tag='"x"')
    assert found is None or found is ranges.UNSATISFIABLE or 0 <= found[0] < found[1] <= size


def json_body(data: bytes) -> None:
    """A body of the API."""
    with contextlib.suppress(ApiError):
        value = parsing.parse(data)
        assert json.loads(json.dumps(value, allow_nan=False).encode()) == value


def registry_uri(data: bytes) -> None:
    """The URI of a push or pull: an allowed path literally names the repository that it was judged for."""
    uri = data.decode("latin-1")
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        with contextlib.suppress(Denied):
            access = permits.access_for_request(method=method, uri=uri)
            permits.registry_of(access)
            subject = permits.subject_of(uri)
            path = uri.partition("?")[0]
            assert path.startswith(f"/v2/{subject.repository}/")
            assert subject.repository in access
            assert ".." not in path
            assert "%" not in path
            assert "//" not in path


def token_scope(data: bytes) -> None:
    """The scopes of a token request."""
    with contextlib.suppress(Denied):
        for name, actions in permits.access_for_scopes([data.decode("utf-8", "replace")]).items():
            assert name
            assert set(actions) <= {"push", "pull"}


def hook_target(data: bytes) -> None:
    """The target of a hook. Whatever the C library reads as an address must be public."""
    with contextlib.suppress(BadTarget):
        found = site(data.decode("utf-8", "replace"), Rules(http=True))
        host = re.sub(r":\d+$", "", found.partition("://")[2]).strip("[]")
        with contextlib.suppress(OSError):
            lenient = ipaddress.ip_address(socket.inet_aton(host))
            assert lenient.is_global, f"{host} is {lenient} to the C library"


def schema(data: bytes) -> None:
    """A schema and arguments, as a developer and a user send them."""
    with contextlib.suppress(ApiError, schemas.InvalidSchema, schemas.InvalidArguments):
        schemas.check_schema(parsing.parse(data))


def sigstore_bundle(data: bytes) -> None:
    """A signature as cosign 3 writes it. With a known key only what was signed is verified."""
    with contextlib.suppress(Invalid):
        signed = sigstore_bundles.signed_statement(data, subject=SIGNED)
        if signatures.signing_key(signed, keys={"release": SIGNER.public_key().verify}):
            assert signed.message == sigstore_bundles.encoded(STATEMENT)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        pointcloud, log_line, program_log, byte_range, json_body, registry_uri, token_scope, hook_target,
        schema, sigstore_bundle,
    )
}  # fmt: skip


def _cloud(ending: str) -> bytes:
    header = laspy.LasHeader(version="1.4", point_format=6)
    header.scales = np.full(3, 0.01)
    cloud = laspy.LasData(header)
    cloud.x = cloud.y = cloud.z = np.arange(20.0)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / f"a.{ending}"
        cloud.write(str(path))
        return path.read_bytes()


DIGEST = b"sha256:" + b"0" * 64
# Valid inputs to modify. Random bytes alone would be refused by the first check.
SEEDS: Mapping[str, list[bytes]] = {
    "pointcloud": [_cloud("las"), _cloud("laz")],
    "log_line": [
        b"GET /x Bearer abcdefgh", b"https://user:password@host/x",
        b"Authorization: basic AAAAAAAA\n" * 9,
    ],
    "program_log": [
        b'2026-01-01T00:00:00.000000Z {"progress": 0.5, "message": "half"}\n'
        b'2026-01-01T00:00:00.000001Z text\n'
    ],
    "byte_range": [b"bytes=0-1", b"bytes=-5", b"bytes=5-"],
    "json_body": [b'{"id": "a", "resources": {"cpus": 1.5}, "tags": ["x", null, true]}'],
    "registry_uri": [
        b"/v2/roads/manifests/v1", b"/v2/roads/blobs/" + DIGEST, b"/v2/grid/roads/manifests/" + DIGEST,
        b"/v2/roads/blobs/uploads/?mount=" + DIGEST + b"&from=rivers",
        b"/v2/roads/blobs/uploads/aB-_=?_state=x",
        b"/v2/roads/tags/list?n=5",
    ],
    "token_scope": [b"repository:roads:pull,push", b"repository:grid/roads:pull repository:x:push"],
    "hook_target": [b"https://example.org:8443/hook?x=y", b"http://[2606:2800:21f::1]/", b"https://0x7f.1/"],
    "schema": [
        b'{"type": "object", "properties": {"x": {"type": "number", "minimum": 0, "default": 1}, "y": '
        b'{"$ref": "#/$defs/y"}}, "$defs": {"y": {"type": "string", "pattern": "^a+$"}}, "required": ["x"]}'
    ],
    "sigstore_bundle": [bundle(envelope(STATEMENT, SIGNER))],
}  # fmt: skip
assert SEEDS.keys() == TARGETS.keys()


def examples() -> int:
    """The number of inputs for each target: few in `make test`, FUZZ_EXAMPLES in a soak."""
    return int(os.environ.get("FUZZ_EXAMPLES", "60"))
