"""Names that users choose."""

import pytest

from gridapps.access.names import is_line


@pytest.mark.parametrize("text", ["a", "Straße 7", "城市", "é", "🌲", "-", "x" * 20])
def test_lines_that_show_something_are_names(text: str) -> None:
    assert is_line(text, longest=20)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u2800",
        "\u3164",
        "\u115f\u1160",
        "\uffa0 ",
        "\u034f",
        "\ufe0f",
        "a\nb",
        "\u202ea",
        "\0",
        "x" * 21,
    ],
)
def test_lines_that_show_nothing_or_control_something_are_no_names(text: str) -> None:
    assert not is_line(text, longest=20)
