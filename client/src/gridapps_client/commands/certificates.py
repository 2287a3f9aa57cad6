"""`gridapps certificate`: client certificates for pushing images."""

from __future__ import annotations

import socket

import click

from gridapps_client import certificates
from gridapps_client.commands.shared import Session, common
from gridapps_client.text import plain


@click.group()
def certificate() -> None:
    """Client certificates, which authorise pushes of images."""


@certificate.command("create")
@click.argument("name", required=False)
@common
def certificate_create(session: Session, name: str | None) -> None:
    """Create a certificate for this machine. NAME identifies it; the default is the machine's name."""
    issued, kept = certificates.create(
        session.client, session.configuration, name=name or socket.gethostname(), tell=session.tell
    )
    shown = issued.certificate
    session.result(
        {"certificate": shown, "directory": str(kept), "authority": issued.authority},
        f"Certificate {plain(shown.serial)} for pushes to {plain(issued.authority)}, "
        f"valid until {plain(shown.not_after)}.",
        f"It is stored in {kept}.",
    )


@certificate.command("list")
@common
def certificate_list(session: Session) -> None:
    """List your certificates."""
    found = list(session.client.certificates())
    stored = session.configuration.stored(session.client.url)
    here = stored.certificate if stored else None
    rows = [
        (each.serial, each.name, each.state, each.not_after, "this machine" if each.serial == here else "")
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
