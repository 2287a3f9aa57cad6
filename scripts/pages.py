"""Writes the pages of docs/ that follow from the code: `make pages`. `--check` only looks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click
from gridapps_client.cli import main as client

from gridapps.runs.states import ACTIVE, MOVES, State
from gridapps.server.cli import main as server

DOCS = Path(__file__).parents[1] / "docs"


def states() -> str:
    """The page of states, with a diagram of the allowed moves."""
    moves = [f"    {state} --> {target}" for state in State for target in State if target in MOVES[state]]
    ends = [f"    {state} --> [*]" for state in State if not MOVES[state]]
    return "\n".join(
        [
            "# States",
            "",
            "Of a task; a run's follows from its tasks'. Written from `runs/states.py` by `make pages`.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            f"    [*] --> {State.QUEUED}",
            *moves,
            *ends,
            "```",
            "",
            "| state | ended | may become |",
            "|---|---|---|",
            *(
                f"| {state} | {'no' if state in ACTIVE else 'yes'} | "
                f"{', '.join(target for target in State if target in MOVES[state]) or 'nothing'} |"
                for state in State
            ),
            "",
        ]
    )


def commands() -> str:
    """The page of commands, of the server and of the client."""
    lines = ["# Commands", "", "Written from the programs' own help by `make pages`.", ""]
    for name, program in (("gridapps-server", server), ("gridapps", client)):
        lines += [f"## {name}", "", (program.help or "").strip(), ""]
        for path, command in walk(name, program):
            lines += _described(path, command)
    return "\n".join(lines)


def walk(path: str, group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Each command below a group with the words that call it."""
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
