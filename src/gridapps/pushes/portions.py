"""The sizes that a body of unknown length may have. nginx has one location for each."""

from collections.abc import Iterator

SMALLEST = 256 * 1024  # bytes


def portions(max_image: int) -> Iterator[int]:
    """The sizes, each twice the previous one, up to twice the size of the largest image."""
    portion = SMALLEST
    while portion < 2 * max_image:
        yield portion
        portion *= 2
    yield portion
