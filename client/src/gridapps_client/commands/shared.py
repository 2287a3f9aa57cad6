"""What all commands share: the options --json and --instance, the client, and the output.

Results go to standard output and messages to standard error, so that a result can be piped.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO, TypeVar

import click

from gridapps_client.client import Client
from gridapps_client.configuration import Configuration
from gridapps_client.errors import GridAppsError
from gridapps_client.models import Attachment, LeftOut
from gridapps_client.text import plain, rfc3339, size, table

R = TypeVar("R")
_LEFT_OUT_SHOWN = 20


class Session:
    """One command's connection to an instance, and its output."""

    def __init__(self, *, as_json: bool, url: str | None) -> None:
        self.as_json = as_json
        self.configuration = Configuration()
        self._url = url
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The client of the chosen instance."""
        if self._client is None:
            self._client = Client.configured(self._url)
        return self._client

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def result(self, value: Mapping[str, object], *lines: str) -> None:
        """Print the command's result: `value` with --json, otherwise `lines`, which must be plain.

        `value` has the envelope of the API, such as `{"runs": [...]}` even for a single run.
        """
        if self.as_json:
            click.echo(json.dumps(_jsonable(value), indent=2, default=rfc3339))
            return
        for line in lines:
            click.echo(line)

    def record(self, value: object, line: str) -> None:
        """Print one record of a stream: a line of JSON with --json, otherwise `line`."""
        click.echo(json.dumps(_jsonable(value), default=rfc3339) if self.as_json else line)

    def table(
        self,
        value: Mapping[str, object],
        head: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        *,
        none: str,
    ) -> None:
        """Print a list as a table; `none` is the message for an empty one."""
        if self.as_json or rows:
            self.result(value, table(head, rows))
        else:
            self.tell(none)

    def tell(self, sentence: str) -> None:
        """Print a message to standard error."""
        click.echo(plain(sentence), err=True)


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
INSTANCE = click.option(
    "--instance", "url", metavar="URL", help="The instance, if not the one of the last login."
)


def common(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command `--json` and `--instance`, and a Session as its first argument."""

    @JSON
    @INSTANCE
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, url: str | None, **kwargs: Any) -> R:
        session = Session(**_chosen(click.get_current_context(), as_json=as_json, url=url))
        try:
            if "run_id" in kwargs:
                # Every command with a RUN takes the beginning of its id, or `last`.
                kwargs["run_id"] = session.client.find_run(kwargs["run_id"])
            return command(session, *args, **kwargs)
        finally:
            session.close()

    return wrapped


def choose(context: click.Context, *, as_json: bool, url: str | None) -> None:
    """Apply the options of a group to the commands below it."""
    context.obj = _chosen(context, as_json=as_json, url=url)


def _chosen(context: click.Context, *, as_json: bool, url: str | None) -> dict[str, Any]:
    above = context.obj or {"as_json": False, "url": None}
    return {"as_json": as_json or above["as_json"], "url": url or above["url"]}


def lists_by_default(command: click.Command) -> Callable[[Callable[[], None]], click.Group]:
    """A group that runs `command` by default. Its `--json` and `--instance` apply to all its commands."""

    def decorate(group: Callable[[], None]) -> click.Group:
        @click.group(name=group.__name__, help=group.__doc__, invoke_without_command=True)
        @JSON
        @INSTANCE
        @click.pass_context
        def made(context: click.Context, as_json: bool, url: str | None) -> None:
            choose(context, as_json=as_json, url=url)
            if context.invoked_subcommand is None:
                context.invoke(command)

        made.add_command(command)
        return made

    return decorate


def positive(context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """The callback of an option that is a positive, finite number."""
    if value is not None and not 0 < value < math.inf:
        raise click.BadParameter(f"{value} is not a positive number.", context, parameter)
    return value


def attached(attachments: Iterable[Attachment]) -> str:
    """The attachments of a release, as a cell of a table."""
    words = dict.fromkeys(map(_named, attachments))
    return ", ".join(words) or "-"


def _named(attachment: Attachment) -> str:
    by = f" by {attachment.verified_by}" if attachment.verified_by else ""
    return f"{attachment.kind}{by}{' (of a manifest in the index)' if attachment.subject else ''}"


def left_out_lines(first: Sequence[LeftOut], *, count: int) -> Iterator[str]:
    """A line for each of the first files that could not be kept as outputs, and one for all others."""
    for each in first[:_LEFT_OUT_SHOWN]:
        yield f"left out: {plain(each.path)} {plain(each.why)}"
    if count > (shown := min(len(first), _LEFT_OUT_SHOWN)):
        yield f"left out: {count - shown} more."


def confirm(question: str) -> bool:
    """Ask on the terminal; False without a terminal."""
    return sys.stdin.isatty() and click.confirm(question, err=True)


def read(file: TextIO, *, limit: int = 4 * 1024**2) -> str:
    """The text of a file from the command line, at most `limit` characters."""
    try:
        content = file.read(limit + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise GridAppsError(f"{file.name} cannot be read as UTF-8 text: {error}.", code="usage") from error
    if len(content) > limit:
        raise GridAppsError(f"{file.name} is larger than {size(limit)}.", code="usage")
    return content


def _jsonable(value: object) -> object:
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value
