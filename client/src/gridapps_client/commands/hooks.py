"""`gridapps hook`: addresses that the instance tells what happened."""

from __future__ import annotations

import click

from gridapps_client.commands.shared import Session, common
from gridapps_client.text import plain


@click.group()
def hook() -> None:
    """Hooks: addresses that the instance tells what happened."""


@hook.command("create")
@click.argument("target", metavar="URL")
@click.option(
    "--event", "events", multiple=True, default=("run.complete",), show_default=True,
    help="What to tell: run.started, run.progress, run.complete, export.complete. May be repeated.",
)  # fmt: skip
@common
def hook_create(session: Session, target: str, events: tuple[str, ...]) -> None:
    """Have events POSTed to URL. The secret of their signatures is shown this once."""
    made, secret = session.client.create_hook(target=target, events=list(events))
    session.result(
        {"hooks": [made], "secret": secret},
        f"Hook {plain(made.pk)} tells {plain(made.target)} of {plain(made.event)}.",
        f"Its secret, shown only now: {plain(secret)}",
    )


@hook.command("list")
@common
def hook_list(session: Session) -> None:
    """List one's hooks."""
    found = list(session.client.hooks())
    rows = [(each.pk, each.event, "active" if each.active else "not active", each.target) for each in found]
    session.table(
        {"hooks": found},
        ("PK", "EVENT", "STATE", "TARGET"),
        rows,
        none="No hooks; make one with: gridapps hook create URL",
    )


@hook.command("delete")
@click.argument("pk")
@common
def hook_delete(session: Session, pk: str) -> None:
    """Delete a hook. Nothing more is told."""
    session.client.delete_hook(pk)
    session.result({"pk": pk}, f"Deleted {plain(pk)}.")


@hook.command("test")
@click.argument("pk")
@common
def hook_test(session: Session, pk: str) -> None:
    """Have a test event delivered, once and soon; `deliveries` tells what came of it."""
    asked = session.client.test_hook(pk)
    session.result({"deliveries": [asked]}, f"A test is on its way: gridapps hook deliveries {plain(pk)}")


@hook.command("deliveries")
@click.argument("pk")
@common
def hook_deliveries(session: Session, pk: str) -> None:
    """Show what a hook was told in the last days, the newest first."""
    found = list(session.client.hook_deliveries(pk))
    rows = [
        (each.created_at, each.event, each.state, str(each.tries), str(each.status or ""), each.error or "")
        for each in found
    ]
    session.table(
        {"deliveries": found},
        ("WHEN", "EVENT", "STATE", "TRIES", "STATUS", "ERROR"),
        rows,
        none="Nothing has been told yet.",
    )
