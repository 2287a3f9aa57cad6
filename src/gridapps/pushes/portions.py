"""How much the body of an upload may be that tells no length: nginx and the judgement know the same sizes."""

from collections.abc import Iterator

SMALLEST = 256 * 1024  # bytes


def portions(max_image: int) -> Iterator[int]:
    """The sizes, each twice the one before: up to twice the largest image, as where a length is told."""
    portion = SMALLEST
    while portion < 2 * max_image:
        yield portion
        portion *= 2
    yield portion
