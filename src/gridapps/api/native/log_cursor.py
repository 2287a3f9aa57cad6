"""The id of an event of a log: how far each task's log was sent, so that a reader can continue there.

`0-57,60,61.2:1234` means: all of tasks 0 to 57 and 60, which needed one attempt, and 1234 bytes of task 61's
second attempt.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LONGEST = 2000  # characters; a header has to hold it. A longer one is not sent
_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
_PART = re.compile(r"([0-9]{1,9})\.([0-9]{1,4}):([0-9]{1,15})")
Attempt = tuple[int, int]  # a task's index, and the number of its attempt


@dataclass(frozen=True)
class Cursor:
    """What was sent: whole logs of first attempts, as sorted ranges of indexes; bytes of the others."""

    whole: list[range] = field(default_factory=list)
    offsets: Mapping[Attempt, int] = field(default_factory=dict)

    def offset(self, attempt: Attempt) -> int | None:
        """Bytes of this attempt's log that were sent; None for all of them."""
        index, number = attempt
        place = bisect_right(self.whole, index, key=lambda each: each.start) - 1
        if number == 1 and place >= 0 and index in self.whole[place]:
            return None
        return self.offsets.get(attempt, 0)


def encoded(whole: Iterable[int], offsets: Mapping[Attempt, int]) -> str:
    """The id; empty if it would be too long. `whole`: indexes whose first attempt's log was sent."""
    parts = []
    for each in _ranges(sorted(whole)):
        parts.append(f"{each.start}-{each[-1]}" if len(each) > 1 else str(each.start))
    parts += [f"{index}.{number}:{sent}" for (index, number), sent in offsets.items()]
    text = ",".join(parts)
    return text if len(text) <= LONGEST else ""


def decoded(text: str) -> Cursor | None:
    """The cursor of an id; None if it is none of ours."""
    whole, offsets = [], {}
    if not 0 < len(text) <= LONGEST:
        return None
    for part in text.split(","):
        if match := _RANGE.fullmatch(part):
            first = int(match[1])
            whole.append(range(first, int(match[2] or first) + 1))
        elif match := _PART.fullmatch(part):
            offsets[int(match[1]), int(match[2])] = int(match[3])
        else:
            return None
    return Cursor(sorted(whole, key=lambda each: each.start), offsets)


def _ranges(indexes: Iterable[int]) -> list[range]:
    found: list[range] = []
    for index in indexes:
        if found and found[-1].stop == index:
            found[-1] = range(found[-1].start, index + 1)
        else:
            found.append(range(index, index + 1))
    return found
