"""Generate the pages of docs/ that follow from the code: `make pages`. `--check` only compares."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from gridapps_client.cli import main as client

from gridapps.exports.upload_states import UPLOAD_MOVES, UploadState
from gridapps.hooks.states import DELIVERY_MOVES, DeliveryState
from gridapps.moves import Moves
from gridapps.registry.states import SHARE_MOVES, ShareState
from gridapps.runs.states import MOVES, State
from gridapps.server.cli import main as server

DOCS = Path(__file__).parents[1] / "docs"


def states() -> str:
    """The page of states, with a diagram of the allowed moves for each table."""
    lines = [
        "# States",
        "",
        "For programmers: the states of runs, shares, deliveries and uploads, and the allowed changes.",
        "",
        "`make pages` generates this page from the tables of `runs`, `registry`, `hooks` and `exports`.",
        "Only `move` in `moves.py` writes these states, in one update that names the states it may leave.",
        "",
    ]
    lines += ["## Tasks and runs", "", "The state of a run follows from the states of its tasks.", ""]
    lines += _table(State.QUEUED, MOVES)
    lines += ["## Shares", "", *_table(ShareState.COPYING, SHARE_MOVES)]
    lines += ["## Deliveries of hooks", "", *_table(DeliveryState.WAITING, DELIVERY_MOVES)]
    lines += ["## Uploads", "", *_table(UploadState.RECEIVING, UPLOAD_MOVES)]
    return "\n".join(lines)


def _table(first: str, moves: Moves[Any]) -> list[str]:
    allowed = {state: [target for target in moves if target in moves[state]] for state in moves}
    return [
        "```mermaid",
        "stateDiagram-v2",
        f"    [*] --> {first}",
        *(f"    {state} --> {target}" for state, targets in allowed.items() for target in targets),
        *(f"    {state} --> [*]" for state, targets in allowed.items() if not targets),
        "```",
        "",
        "| state | ended | may become |",
        "|---|---|---|",
        *(
            f"| {state} | {'no' if targets else 'yes'} | {', '.join(targets) or 'nothing'} |"
            for state, targets in allowed.items()
        ),
        "",
    ]


def commands() -> str:
    """The page of commands, of the server and of the client."""
    lines = [
        "# Commands",
        "",
        "For users and operators: every command with its options.",
        "",
        "`make pages` generates this page from the help texts of the programs.",
        "",
    ]
    for name, program in (("gridapps-server", server), ("gridapps", client)):
        lines += [f"## {name}", "", (program.help or "").strip(), ""]
        for path, command in walk(name, program):
            lines += _described(path, command)
    return "\n".join(lines)


def walk(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Each command of a group, with the words that call it."""
    for name, command in sorted(group.commands.items()):
        words = f"{path} {name}"
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            yield from walk(words, command)
        else:
            yield words, command


def _described(path: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"### `{path}`", "", f"    {path} {usage}".rstrip(), "", (command.help or "").strip(), ""]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record:
            lines.append(f"- `{record[0]}` {record[1]}".rstrip())
    return [*lines, ""] if lines[-1] else lines


PAGES = {"states.md": states, "commands.md": commands}

if __name__ == "__main__":
    stale = []
    for name, page in PAGES.items():
        path, text = DOCS / name, page()
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale and "--check" in sys.argv:
        sys.exit(f"Stale: {', '.join(stale)}. Run `make pages`.")
