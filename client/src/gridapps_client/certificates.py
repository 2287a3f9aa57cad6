"""A client certificate for this machine. If openssl is installed, the key is made here and never sent."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gridapps_client.address import authority
from gridapps_client.client import Client
from gridapps_client.configuration import Configuration, Instance
from gridapps_client.disk import asked, writing
from gridapps_client.errors import BadAnswer
from gridapps_client.models import Certificate, IssuedCertificate

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"


def present(client: Client, configuration: Configuration) -> Certificate | None:
    """The certificate of this machine, if it is valid."""
    stored = configuration.stored(client.url)
    if stored is None or stored.certificate is None:
        return None
    for each in client.certificates():
        if each.serial == stored.certificate and each.state == "valid":
            return each
    return None


def create(
    client: Client, configuration: Configuration, *, name: str, tell: Callable[[str], None]
) -> tuple[IssuedCertificate, Path]:
    """Request a certificate, store it in the configuration directory in place of another, and return both."""
    key, csr = _own_key(tell)
    issued = client.create_certificate(name=name, csr=csr)
    key = key or issued.key
    if key is None or _CERTIFICATE not in issued.pem or _CERTIFICATE not in issued.ca:
        raise BadAnswer("The instance sent an incomplete certificate.", code="bad-answer")
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
    """Remove the certificate stored for `url` if it has this serial; return whether it was removed."""
    stored = configuration.stored(url)
    if stored is None or stored.certificate != serial:
        return False
    shutil.rmtree(configuration.certificates(url), ignore_errors=True)
    configuration.save(replace(stored, certificate=None))
    return True


def _own_key(tell: Callable[[str], None]) -> tuple[str | None, str | None]:
    """A P-256 key and its signing request as PEM, or None without openssl."""
    if shutil.which("openssl") is None:
        tell("openssl is not installed, so the instance makes the key.")
        return None, None
    command = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    # Only this user can access the directory of mkdtemp.
    with writing(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="gridapps-") as directory:
        key, csr = Path(directory, "key"), Path(directory, "csr")
        done = asked([*command, "-subj", "/CN=gridapps", "-keyout", str(key), "-out", str(csr)])
        if done.returncode != 0:
            tell("openssl could not make a key, so the instance makes it.")
            return None, None
        return key.read_text(), csr.read_text()
