"""`gridapps share`, `gridapps block` and `gridapps unblock`, for administrators."""

from __future__ import annotations

import click

from gridapps_client.commands.shared import Session, attached, common
from gridapps_client.text import plain


@click.group()
def share() -> None:
    """Let holders of an access tag run an App. For administrators (`gridapps login --admin`)."""


@share.command("create")
@click.argument("app_id", metavar="APP")
@click.option("--tag", "access_tag", required=True, help="The access tag.")
@click.option("--release", required=True, help="Digest or tag of the release.")
@common
def share_create(session: Session, app_id: str, access_tag: str, release: str) -> None:
    """Share a release of APP. It is copied first; `gridapps share list APP` shows the progress."""
    made = session.client.share(app_id, access_tag=access_tag, release=release)
    session.result(
        {"share": made},
        f"Share {plain(made.pk)} with {plain(made.access_tag)}, {plain(made.release)}: {plain(made.state)}.",
    )


@share.command("list")
@click.argument("app_id", metavar="APP")
@common
def share_list(session: Session, app_id: str) -> None:
    """List the shares of APP, newest first."""
    found = list(session.client.shares(app_id))
    rows = [
        (
            each.pk,
            each.access_tag,
            each.release[:19],
            each.state,
            f"{each.copied}/{each.size}",
            attached(each.attachments),
            each.reason,
        )
        for each in found
    ]
    head = ("KEY", "TAG", "RELEASE", "STATE", "BYTES", "ATTACHED", "")
    session.table({"shares": found}, head, rows, none="No shares.")


@share.command("revoke")
@click.argument("app_id", metavar="APP")
@click.argument("pk", metavar="KEY")
@common
def share_revoke(session: Session, app_id: str, pk: str) -> None:
    """Revoke the share KEY of APP at once."""
    session.client.revoke_share(app_id, pk)
    session.result({"pk": pk}, f"Revoked share {pk}.")


@click.command()
@click.argument("app_id", metavar="APP")
@click.option("--release", help="Digest of the one release to block.")
@click.option("--reason", required=True, help="One line, which users will read.")
@click.option("--stop", is_flag=True, help="Stop running tasks too.")
@common
def block(session: Session, app_id: str, release: str | None, reason: str, stop: bool) -> None:
    """Block APP, or one release of it, for all users at once. For administrators."""
    session.client.block(app_id, reason=reason, release=release, stop=stop)
    session.result(
        {"app": app_id, "release": release}, f"Blocked {app_id}{f' {release}' if release else ''}."
    )


@click.command()
@click.argument("app_id", metavar="APP")
@click.option("--release", help="Digest of the one release.")
@common
def unblock(session: Session, app_id: str, release: str | None) -> None:
    """Unblock APP, or one release of it. For administrators."""
    session.client.unblock(app_id, release=release)
    session.result(
        {"app": app_id, "release": release}, f"Unblocked {app_id}{f' {release}' if release else ''}."
    )
