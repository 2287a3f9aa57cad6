"""What every command shares: the options --json and --instance, the client behind them, and where words go.

Results go to standard output and everything else to standard error, so that a result can be piped.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO, TypeVar

import click

from gridapps_client.client import Client
from gridapps_client.configuration import Configuration
from gridapps_client.errors import GridAppsError
from gridapps_client.models import Attachment
from gridapps_client.text import plain, table

R = TypeVar("R")


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
        """Give back the connections."""
        if self._client is not None:
            self._client.close()

    def result(self, value: Mapping[str, object], *lines: str) -> None:
        """The command's result: `value` with --json, else `lines`, which must be plain already.

        `value` has the envelope of the API: `{"runs": [...]}` also for a single run.
        """
        if self.as_json:
            click.echo(json.dumps(_jsonable(value), indent=2))
            return
        for line in lines:
            click.echo(line)

    def record(self, value: object, line: str) -> None:
        """One record of a stream: a line of JSON with --json, else `line`."""
        click.echo(json.dumps(_jsonable(value)) if self.as_json else line)

    def table(
        self,
        value: Mapping[str, object],
        head: tuple[str, ...],
        rows: Sequence[tuple[str, ...]],
        *,
        none: str,
    ) -> None:
        """A list in its envelope as a table; `none` is said when it is empty."""
        if self.as_json or rows:
            self.result(value, table(head, rows))
        else:
            self.tell(none)

    def tell(self, sentence: str) -> None:
        """Something beside the result."""
        click.echo(plain(sentence), err=True)


JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON and nothing else.")
INSTANCE = click.option(
    "--instance", "url", metavar="URL", help="Another instance than that of the last login."
)


def common(command: Callable[..., R]) -> Callable[..., R]:
    """Gives a command `--json` and `--instance`, and a Session as its first argument."""

    @JSON
    @INSTANCE
    @functools.wraps(command)
    def wrapped(*args: Any, as_json: bool, url: str | None, **kwargs: Any) -> R:
        session = Session(**_chosen(click.get_current_context(), as_json=as_json, url=url))
        try:
            return command(session, *args, **kwargs)
        finally:
            session.close()

    return wrapped


def choose(context: click.Context, *, as_json: bool, url: str | None) -> None:
    """Makes what a group was given hold for the commands below it."""
    context.obj = _chosen(context, as_json=as_json, url=url)


def _chosen(context: click.Context, *, as_json: bool, url: str | None) -> dict[str, Any]:
    above = context.obj or {"as_json": False, "url": None}
    return {"as_json": as_json or above["as_json"], "url": url or above["url"]}


def lists_by_default(command: click.Command) -> Callable[[Callable[[], None]], click.Group]:
    """A group that runs `command` when no other is named; its `--json` and `--instance` reach them all."""

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


def attached(attachments: Iterable[Attachment]) -> str:
    """What is attached to a release, in a cell of a table."""
    words = dict.fromkeys(
        f"{each.kind} by {each.verified_by}" if each.verified_by else each.kind for each in attachments
    )
    return ", ".join(words) or "-"


def confirm(question: str) -> bool:
    """Asks on the terminal; False when there is nobody to ask."""
    return sys.stdin.isatty() and click.confirm(question, err=True)


def read(file: TextIO, *, limit: int = 4 * 1024**2) -> str:
    """The text in a file that was given on the command line, of at most `limit` bytes."""
    try:
        content = file.read(limit + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise GridAppsError(f"{file.name} cannot be read as UTF-8 text: {error}.", code="usage") from error
    if len(content) > limit:
        raise GridAppsError(f"{file.name} is larger than {limit} bytes.", code="usage")
    return content


def _jsonable(value: object) -> object:
    if isinstance(value, list):
        return [_jsonable(each) for each in value]
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value
