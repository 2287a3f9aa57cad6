"""docs/crashes.md has a row for each victim, and names tests that exist."""

import re
from pathlib import Path

from tests.chaos.victims import VICTIMS

TOP = Path(__file__).parents[2]
ROWS = re.findall(
    r"^\| (.+?) \| (.+?) \| (.+?) \| `(\w+)` \|$", (TOP / "docs" / "crashes.md").read_text(), re.M
)


def test_every_victim_has_its_row_and_every_row_its_victim():
    assert [what.strip("`") for what, _, _, test in ROWS if test == "test_matrix"] == list(VICTIMS)


def test_the_tests_that_it_names_are_there():
    there = {path.stem for path in (TOP / "tests").rglob("test_*.py")}
    assert {test for *_, test in ROWS} <= there
