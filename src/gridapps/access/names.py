"""The rule for names and other single lines that users choose and others see."""

import unicodedata

# They count as letters or symbols, and show nothing: the Hangul fillers, and Braille without a dot.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800")
_VISIBLE = frozenset("LNPS")  # letters, numbers, punctuation and symbols, by the categories of Unicode


def is_line(text: str, *, longest: int) -> bool:
    """Whether a text is one line of printable characters, of which one at least is visible."""
    return len(text) <= longest and text.isprintable() and any(map(_is_visible, text))


def _is_visible(character: str) -> bool:
    return character not in _BLANK and unicodedata.category(character)[0] in _VISIBLE
