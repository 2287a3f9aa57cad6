"""`gridapps certificate`: client certificates for pushing images."""

from __future__ import annotations

import socket

import click

from gridapps_client import certificates
from gridapps_client.commands.shared import Session, common, confirm
from gridapps_client.errors import GridAppsError
from gridapps_client.models import Certificate
from gridapps_client.text import moment, plain


@click.group()
def certificate() -> None:
    """Client certificates, which authorise pushes of images."""


@certificate.command("create")
@click.argument("name", required=False)
@click.option("--replace", is_flag=True, help="Revoke this machine's present certificate afterwards.")
@common
def certificate_create(session: Session, name: str | None, replace: bool) -> None:
    """Create a certificate for this machine. NAME identifies it; the default is the machine's name.

    A machine has one certificate. If it has a valid one already, nothing is created without --replace.
    """
    old = certificates.present(session.client, session.configuration)
    if old and not (replace or confirm(f"{_described(old)} Revoke it, and create another one?")):
        raise GridAppsError(
            f"{_described(old)} To revoke it and create another one, add --replace.", code="exists"
        )
    issued, kept = certificates.create(
        session.client, session.configuration, name=name or socket.gethostname(), tell=session.tell
    )
    if old:
        session.client.revoke_certificate(old.serial)
        session.tell(f"Revoked {old.serial}.")
    for each in session.client.certificates():
        others = {issued.certificate.serial, old.serial if old else ""}
        if each.state == "valid" and each.name == issued.certificate.name and each.serial not in others:
            session.tell(
                f"Another certificate with this name is valid; if its machine is gone, revoke it with: "
                f"gridapps certificate revoke {each.serial}"
            )
    shown = issued.certificate
    session.result(
        {"certificate": shown, "directory": str(kept), "authority": issued.authority},
        f"Certificate {plain(shown.serial)} for pushes to {plain(issued.authority)}, "
        f"valid until {moment(shown.not_after)}.",
        f"It is stored in {kept}.",
    )


def _described(present: Certificate) -> str:
    return (
        f"This machine has the certificate {plain(present.name)!r} ({plain(present.serial)}), "
        f"valid until {moment(present.not_after)}."
    )


@certificate.command("list")
@common
def certificate_list(session: Session) -> None:
    """List your certificates."""
    found = list(session.client.certificates())
    stored = session.configuration.stored(session.client.url)
    here = stored.certificate if stored else None
    rows = [
        (
            each.serial,
            each.name,
            each.state,
            moment(each.not_after),
            "this machine" if each.serial == here else "",
        )
        for each in found
    ]
    session.table(
        {"certificates": found},
        ("SERIAL", "NAME", "STATE", "UNTIL", ""),
        rows,
        none="You have no certificates; create one with: gridapps certificate create",
    )


@certificate.command("revoke")
@click.argument("serial")
@common
def certificate_revoke(session: Session, serial: str) -> None:
    """Revoke a certificate at once."""
    session.client.revoke_certificate(serial)
    dropped = certificates.drop(session.configuration, url=session.client.url, serial=serial)
    session.result(
        {"serial": serial, "removed_here": dropped},
        f"Revoked {serial}" + (", and removed it from this machine." if dropped else "."),
    )
