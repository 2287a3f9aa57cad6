"""A client certificate for this machine: the key is made here when openssl is installed, and then never
leaves it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gridapps_client.address import authority
from gridapps_client.client import Client
from gridapps_client.configuration import Configuration, Instance
from gridapps_client.errors import BadAnswer
from gridapps_client.models import IssuedCertificate

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def create(
    client: Client, configuration: Configuration, *, name: str, tell: Callable[[str], None]
) -> tuple[IssuedCertificate, Path]:
    """Ask for a certificate, keep it below the configuration directory, and return it with the directory it
    is in.
    """
    key, csr = _own_key(tell)
    issued = client.create_certificate(name=name, csr=csr)
    key = key or issued.key
    if key is None or _CERTIFICATE not in issued.pem or _CERTIFICATE not in issued.ca:
        raise BadAnswer("The instance sent a certificate that is not complete.", code="bad-answer")
    if issued.authority != authority(client.url):
        tell(
            f"Note: images are pushed to {issued.authority}, but you are logged in at "
            f"{authority(client.url)}; before you push, log in at https://{issued.authority}"
        )
    kept = configuration.keep_certificate(client.url, ca=issued.ca, certificate=issued.pem, key=key)
    stored = configuration.stored(client.url) or Instance(url=client.url)
    configuration.save(replace(stored, certificate=issued.certificate.serial))
    return issued, kept


def drop(configuration: Configuration, *, url: str, serial: str) -> bool:
    """Remove the certificate kept for `url` if it is the one with `serial`; returns whether it was."""
    stored = configuration.stored(url)
    if stored is None or stored.certificate != serial:
        return False
    shutil.rmtree(configuration.certificates(url), ignore_errors=True)
    configuration.save(replace(stored, certificate=None))
    return True


def _own_key(tell: Callable[[str], None]) -> tuple[str | None, str | None]:
    """A P-256 key and a signing request for it, as PEM, or nothing where openssl is missing."""
    if shutil.which("openssl") is None:
        tell("openssl is not installed, so the instance makes the key.")
        return None, None
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    # mkdtemp's directory is closed to others, so the key is never readable in between.
    with tempfile.TemporaryDirectory(prefix="gridapps-") as directory:
        key, csr = Path(directory, "key"), Path(directory, "csr")
        done = subprocess.run(
            [*command, "-subj", "/CN=gridapps", "-keyout", str(key), "-out", str(csr)],
            capture_output=True,
            check=False,
            timeout=60,
        )
        if done.returncode != 0:
            tell("openssl could not make a key, so the instance makes it.")
            return None, None
        return key.read_text(), csr.read_text()
