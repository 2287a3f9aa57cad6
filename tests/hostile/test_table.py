"""docs/hostile-apps.md names every fault and every test of them, and nothing that does not exist."""

import re
from pathlib import Path

from tests.hostile.faults import FAULTS

TOP = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("hostile.c").read_text()
_GENERAL = {
    "test_it_ends_in_time_for_the_right_reason_and_keeps_what_it_may",
    "test_afterwards_the_host_is_as_it_was",
}  # the page names them above the tables, because they apply to all faults


def _named() -> set[str]:
    """The names in the last column of the tables."""
    rows = [line for line in (TOP / "docs" / "hostile-apps.md").read_text().splitlines() if line[:2] == "| "]
    cells = [row.rstrip(" |").rpartition(" | ")[2] for row in rows]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def _tests(*paths: Path) -> set[str]:
    return {name for path in paths for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}


def test_every_fault_is_in_the_table_and_the_other_way_round():
    faults = {name for name in _named() if "::" not in name and not name.startswith("test_")}
    assert faults == set(FAULTS)
    for_bench = {"nothing", "work"}
    assert set(re.findall(r'\{"([a-z-]+)", [a-z_]+\}', SOURCE)) == faults | for_bench


def test_every_test_of_a_fault_is_in_the_table_and_the_other_way_round():
    here = _tests(*(path for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_table.py"))
    assert {name for name in _named() if name.startswith("test_")} == here - _GENERAL


def test_tests_elsewhere_exist():
    for name in _named():
        path, _, test = name.partition("::")
        if test:
            assert re.search(rf"^(def|class) {test}\b", (TOP / path).read_text(), re.M), name
