"""`gridapps app`: create, list, show, update and delete Apps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO, TypeVar

import click

from gridapps_client import terms
from gridapps_client.commands.shared import Session, attached, common, confirm, positive, read
from gridapps_client.errors import GridAppsError, NotFound
from gridapps_client.models import App, Release
from gridapps_client.text import moment, plain, size, table

R = TypeVar("R")


@click.group()
def app() -> None:
    """Apps: container images that run on point clouds."""


def _described_by_options(command: Callable[..., R]) -> Callable[..., R]:
    for option in reversed(
        [
            click.option("--title", help="One line about what the App does."),
            click.option("--description", help="A longer description."),
            click.option(
                "--arguments",
                type=click.File(encoding="utf-8"),
                help="File with the JSON Schema of the arguments; - for standard input.",
            ),
            click.option("--cpus", type=float, callback=positive, help="Processors of each task."),
            click.option("--memory", help="Memory of each task, such as 2GiB."),
            click.option("--disk", help="Disk for the outputs of each task, such as 10GiB."),
            click.option("--time", "time_", help="Time limit of each task, such as 30m."),
        ]
    ):
        command = option(command)
    return command


@app.command("create")
@click.argument("what", metavar="ID|FILE")
@_described_by_options
@common
def app_create(session: Session, what: str, **given: Any) -> None:
    """Create an App. ID consists of [a-z0-9-] and is unique in the instance.

    FILE (a .json file, or - for standard input) has id, title, description, arguments and resources, as
    in the API. Options override it.
    """
    fields = _fields(what, given)
    made = session.client.create_app(**({"title": fields["id"]} | fields))
    name = plain(made.id)
    session.result(
        {"apps": [made]}, f"Created the App {name}. Push its image with: gridapps push IMAGE {name}:TAG"
    )


@app.command("update")
@click.argument("what", metavar="ID|FILE")
@_described_by_options
@common
def app_update(session: Session, what: str, **given: Any) -> None:
    """Change an App, given by its ID or by FILE. What is not given stays the same."""
    fields = _fields(what, given)
    app_id = fields.pop("id")
    if not fields:
        raise GridAppsError("There is nothing to change; see: gridapps app update --help", code="usage")
    if isinstance(fields.get("resources"), dict):
        present = session.client.app(app_id).resources
        fields["resources"] = vars(present) | fields["resources"]
    changed = session.client.update_app(app_id, **fields)
    session.result({"apps": [changed]}, f"Changed the App {plain(changed.id)}.")


@app.command("list")
@click.option("--mine", is_flag=True, help="Only those that you own.")
@common
def app_list(session: Session, mine: bool) -> None:
    """List the Apps that you may run or own."""
    found = list(session.client.apps(mine=mine))
    rows = [(each.id, each.owner, "yes" if each.runnable else "no", each.title) for each in found]
    session.table(
        {"apps": found}, ("ID", "OWNER", "RUNNABLE", "TITLE"), rows, none="There are no Apps for you."
    )


@app.command("show")
@click.argument("app_id", metavar="ID")
@common
def app_show(session: Session, app_id: str) -> None:
    """Show an App and its arguments, and the releases of your own Apps."""
    found = session.client.app(app_id)
    try:
        releases: list[Release] | None = list(session.client.releases(app_id))
    except NotFound:
        # Only the owner and administrators see them.
        releases = None
    session.result({"apps": [found], "releases": releases}, *_page(found, releases))


@app.command("counts")
@click.argument("app_id", metavar="ID")
@common
def app_counts(session: Session, app_id: str) -> None:
    """Show how often one of your Apps ran, up to the last midnight (UTC)."""
    found = session.client.counts(app_id)
    rows = [
        (each.release[:19], when, whose, *(_ended(tally.runs)), *(_ended(tally.tasks)))
        for when, releases in ((f"since {found.since:%Y-%m-%d}", found.recent), ("total", found.in_all))
        for each in releases
        for whose, tally in (("own", each.own), ("others", each.others))
    ]
    states = ("SUCCESS", "FAILURE", "CANCELED")
    head = ("RELEASE", "WHEN", "RUNS", *states, *(f"TASKS {state}" for state in states))
    session.table({"counts": found}, head, rows, none="No run has ended before today.")


@app.command("delete")
@click.argument("app_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@common
def app_delete(session: Session, app_id: str, yes: bool) -> None:
    """Delete an App. Its id cannot be used again."""
    if not yes and not confirm(f"Delete the App {app_id}?"):
        raise GridAppsError("Nothing was deleted; confirm with --yes.", code="usage")
    session.client.delete_app(app_id)
    session.result({"id": app_id}, f"Deleted the App {app_id}.")


def _fields(what: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields for the API, from an app-id or a file, and the options."""
    fields: dict[str, Any] = {"id": what}
    # No app-id looks like a file.
    if what == "-" or set(what) & set("./"):
        with _opened(what) as file:
            fields = terms.json_object(read(file), source=what)
        if not isinstance(fields.get("id"), str):
            raise GridAppsError(f"{what} has no field `id`; add the id of the App.", code="usage")
    fields |= {name: given[name] for name in ("title", "description") if given[name] is not None}
    schema: TextIO | None = given["arguments"]
    if schema:
        fields["arguments"] = terms.json_object(read(schema), source=schema.name)
    resources = {
        "cpus": given["cpus"],
        "memory": terms.number_of_bytes(given["memory"]) if given["memory"] else None,
        "disk": terms.number_of_bytes(given["disk"]) if given["disk"] else None,
        "time": terms.number_of_seconds(given["time_"]) if given["time_"] else None,
    }
    wanted = {name: value for name, value in resources.items() if value is not None}
    present = fields.get("resources", {})
    if wanted and isinstance(present, dict):
        fields["resources"] = present | wanted
    return fields


def _opened(name: str) -> TextIO:
    try:
        file: TextIO = click.open_file(name, encoding="utf-8")  # type: ignore[assignment]
    except OSError as error:
        raise GridAppsError(f"{name} cannot be read: {error.strerror}.", code="usage") from error
    return file


def _blocked(found: App | Release) -> list[str]:
    """A line if an administrator has blocked it."""
    if not found.blocked:
        return []
    since = f" since {moment(found.blocked_at)}" if found.blocked_at else ""
    return [f"BLOCKED by an administrator{since}: {plain(found.blocked)}"]


def _page(found: App, releases: list[Release] | None) -> list[str]:
    needs = found.resources
    lines = [
        f"{plain(found.id)}: {plain(found.title)}",
        *_blocked(found),
        *(plain(line) for line in found.description.splitlines()),
        f"owner {plain(found.owner)}; each task: {needs.cpus:g} processors, {size(needs.memory)} memory, "
        f"{size(needs.disk)} disk, {needs.time} s",
        f"images: {plain(found.repository)}",
    ]
    properties = found.arguments.get("properties")
    if isinstance(properties, dict) and properties:
        rows = [_argument(name, each) for name, each in properties.items() if isinstance(each, dict)]
        lines += ["", table(("ARGUMENT", "TYPE", "DEFAULT", "DESCRIPTION"), rows)]
    if releases:
        pushed = [
            (
                ", ".join(each.tags) or "-",
                each.state,
                size(each.size),
                moment(each.pushed_at),
                each.digest,
                attached(each.attachments),
                "; ".join([*_blocked(each), *each.reasons, *each.remarks]),
            )
            for each in releases
        ]
        lines += ["", table(("TAG", "STATE", "SIZE", "PUSHED", "DIGEST", "ATTACHED", ""), pushed)]
    elif found.attachments:
        lines.append(f"attached: {plain(attached(found.attachments))}")
    return lines


def _ended(counts: Mapping[str, int]) -> Iterator[str]:
    return (str(counts.get(state, 0)) for state in ("SUCCESS", "FAILURE", "CANCELED"))


def _argument(name: str, schema: Mapping[str, Any]) -> tuple[str, str, str, str]:
    kind = schema.get("type", schema.get("enum", ""))
    default = json.dumps(schema["default"]) if "default" in schema else ""
    return (
        str(name),
        kind if isinstance(kind, str) else json.dumps(kind),
        default,
        str(schema.get("description") or schema.get("title") or ""),
    )
