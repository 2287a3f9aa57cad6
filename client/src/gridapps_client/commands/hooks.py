"""`gridapps hook`: URLs that the instance POSTs events to."""

from __future__ import annotations

import click

from gridapps_client.commands.shared import Session, common
from gridapps_client.text import moment, plain


@click.group()
def hook() -> None:
    """Hooks: URLs that the instance POSTs events to."""


@hook.command("create")
@click.argument("target", metavar="URL")
@click.option(
    "--event", "events", multiple=True, default=("run.complete",), show_default=True,
    help="run.started, run.progress, run.complete, export.complete or export.deleted. May be repeated.",
)  # fmt: skip
@common
def hook_create(session: Session, target: str, events: tuple[str, ...]) -> None:
    """Have events POSTed to URL. The secret that signs them is shown only once."""
    made, secret = session.client.create_hook(target=target, events=list(events))
    session.result(
        {"hooks": [made], "secret": secret},
        f"Hook {plain(made.pk)} sends {plain(made.event)} to {plain(made.target)}.",
        f"Its secret, shown only once: {plain(secret)}",
    )


@hook.command("list")
@common
def hook_list(session: Session) -> None:
    """List your hooks."""
    found = list(session.client.hooks())
    rows = [(each.pk, each.event, "active" if each.active else "not active", each.target) for each in found]
    session.table(
        {"hooks": found},
        ("PK", "EVENT", "STATE", "TARGET"),
        rows,
        none="You have no hooks; create one with: gridapps hook create URL",
    )


@hook.command("delete")
@click.argument("pk")
@common
def hook_delete(session: Session, pk: str) -> None:
    """Delete a hook and its pending deliveries."""
    session.client.delete_hook(pk)
    session.result({"pk": pk}, f"Deleted {plain(pk)}.")


@hook.command("test")
@click.argument("pk")
@common
def hook_test(session: Session, pk: str) -> None:
    """Send a test event once, soon. `gridapps hook deliveries` shows the result."""
    asked = session.client.test_hook(pk)
    session.result(
        {"deliveries": [asked]},
        f"A test event is on its way; see the result with: gridapps hook deliveries {plain(pk)}",
    )


@hook.command("deliveries")
@click.argument("pk")
@common
def hook_deliveries(session: Session, pk: str) -> None:
    """Show the deliveries of a hook in the last days, newest first."""
    found = list(session.client.hook_deliveries(pk))
    rows = [
        (
            moment(each.created_at),
            each.event,
            each.state,
            str(each.tries),
            str(each.status or ""),
            each.error or "",
        )
        for each in found
    ]
    session.table(
        {"deliveries": found},
        ("WHEN", "EVENT", "STATE", "TRIES", "STATUS", "ERROR"),
        rows,
        none="There are no deliveries.",
    )
