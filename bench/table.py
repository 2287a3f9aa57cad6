"""The measurements as a table."""

from collections.abc import Iterable

from bench.measures import Measured


def table(rows: Iterable[Measured]) -> str:
    """One line for each measure."""
    cells = [["measure", "GRiD Apps", "beside", "ratio", "target", ""]]
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.holds]
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        cells.append([row.name, row.ours, row.theirs, ratio, row.target, verdict])
    widths = [max(len(line[column]) for line in cells) for column in range(6)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)
