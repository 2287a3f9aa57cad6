"""The commands `gridapps-server node ...`: other machines that may run tasks of this instance."""

import sys
from pathlib import Path
from typing import BinaryIO

import click
from click import BadParameter, File

from gridapps.server.instance import Unusable, environment, identity, prepare
from gridapps.server.join import ENGINE_CERTIFICATES, join

BUNDLE = File("rb")
certificates_option = click.option(
    "--certificates",
    type=click.Path(path_type=Path),
    default=ENGINE_CERTIFICATES,
    show_default=True,
    help="where the container engine reads certificates of registries",
)


@click.group()
def node() -> None:
    """Other machines that run tasks of this instance (docs/cluster.md)."""


@node.command("add")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 3650), default=825, show_default=True, help="validity")
def add(name: str, days: int) -> None:
    """Write a bundle for node NAME to standard output. With it, that machine may pull images.

    It contains a private key: keep it secret, and delete it when the node has joined. A second bundle for the
    same NAME adds a certificate.
    """
    if sys.stdout.isatty():
        raise BadParameter(f"The bundle is a tar archive: gridapps-server node add {name} > {name}.tar")
    settings = prepare()
    from gridapps.pki import membership
    from gridapps.registry import node_certificates

    try:
        issued = node_certificates.issue(by=None, node=name, days=days)
    except node_certificates.InvalidNode as error:
        raise Unusable(str(error)) from None
    member = membership.Membership(
        node=name, instance=identity(settings.data.absolute()), authority=settings.authority
    )
    files = issued.files()
    sys.stdout.buffer.write(membership.pack(member, files))
    if settings.host in ("localhost", "127.0.0.1", "::1"):
        click.echo(
            "Other machines cannot reach GRIDAPPS_HOST=localhost: set it to this machine's name.", err=True
        )


@node.command("list")
def show() -> None:
    """Show the certificates of nodes."""
    prepare()
    from django.utils import timezone

    from gridapps.registry import node_certificates

    for each in node_certificates.issued():
        state = "revoked" if each.revoked_at else "expired" if each.not_after <= timezone.now() else "valid"
        click.echo(f"{each.node:20}  {state:8}  until {each.not_after:%Y-%m-%d}  {each.serial}")


@node.command("remove")
@click.argument("name")
def remove(name: str) -> None:
    """Revoke every certificate of node NAME. From now on its engine can pull nothing.

    Its running tasks continue to their end. Stop the worker on the node to give them to other nodes.
    """
    prepare()
    from gridapps.registry import node_certificates

    try:
        count = node_certificates.revoke(by=None, node=name)
    except node_certificates.InvalidNode as error:
        raise Unusable(str(error)) from None
    click.echo(f"Node {name}: {count} certificate{'' if count == 1 else 's'} revoked.")


@node.command("join")
@click.argument("bundle", type=BUNDLE)
@certificates_option
def join_instance(bundle: BinaryIO, certificates: Path) -> None:
    """Make this machine a node, with the BUNDLE of `node add` on the first machine (- for standard input)."""
    data = environment().data.absolute()
    join(data, bundle.read(), certificates=certificates, say=lambda text: click.echo(text, err=True))
