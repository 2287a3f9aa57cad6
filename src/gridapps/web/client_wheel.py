"""The client as a wheel (PEP 427), packed from the distribution that is installed beside the server.

So users install the client that fits their instance. The same installation always gives the same bytes.
"""

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

_DISTRIBUTION, _PACKAGE = "gridapps-client", "gridapps_client"
_WHEEL = "Wheel-Version: 1.0\nGenerator: gridapps\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class Wheel:
    """A wheel and its checksum."""

    name: str
    content: bytes
    sha256: str


@cache
def wheel() -> Wheel | None:
    """The client's wheel; None if the client is not installed here."""
    try:
        installed = distribution(_DISTRIBUTION)
    except PackageNotFoundError:
        return None
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        return None
    stem = f"{_PACKAGE}-{installed.version}"
    content = _packed(_files(installed, Path(found.origin).parent, f"{stem}.dist-info"), f"{stem}.dist-info")
    return Wheel(f"{stem}-py3-none-any.whl", content, hashlib.sha256(content).hexdigest())


def _files(installed: Distribution, package: Path, information: str) -> dict[str, bytes]:
    files = {
        f"{_PACKAGE}/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and path.suffix in {".py", ".typed"}
    }
    files[f"{information}/WHEEL"] = _WHEEL.encode()
    for name in ("METADATA", "entry_points.txt", "licenses/LICENSE"):
        if (text := installed.read_text(name)) is not None:
            files[f"{information}/{name}"] = text.encode()
    return files


def _packed(files: dict[str, bytes], information: str) -> bytes:
    packed = io.BytesIO()
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in files.items())
    record += f"{information}/RECORD,,\n"
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in {**files, f"{information}/RECORD": record.encode()}.items():
            # A fixed time and mode, so that the checksum stays the same.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
