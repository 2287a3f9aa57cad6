"""Untrusted text cannot control the terminal."""

import pytest
from gridapps_client.text import plain, size, table
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\rb\nc", "a\\x0db\\nc"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2028", "\\u2028"),
        ("\udc80", "\\udc80"),
        ("\U000e0041", "\\U000e0041"),
        ("Zürich 東京 \t ok 👩‍🔬", "Zürich 東京 \t ok 👩‍🔬"),
    ],
)
def test_shown_as_what_it_is(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown


@given(st.text())
def test_no_control_survives(text: str) -> None:
    shown = plain(text)
    assert not any(
        (ord(character) < 32 and character != "\t") or 127 <= ord(character) < 160 for character in shown
    )
    shown.encode()


def test_table_cells_are_made_plain() -> None:
    assert table(("A", "B"), [("x\x1b", "y\nz")]) == "A      B\nx\\x1b  y\\nz"


def test_sizes() -> None:
    assert [size(number) for number in (0, 1023, 1536, 5 * 1024**3, 2 * 1024**4)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "2.0 TiB",
    ]
