"""The /etc/passwd and /etc/group of a container: those of its image, with an entry for the attempt's user.

Programs look their user up by its number, which the image cannot know: Python's getpwuid raises and Java's
user.home is "?" without an entry. The files of an image are untrusted and stay as they are: they are not
parsed further than to find out whether the number has an entry.
"""

from dataclasses import dataclass

NAME = "grid"
_HOME = "/tmp"  # noqa: S108 - a path in the container


@dataclass(frozen=True)
class AccountFiles:
    """Content of both files; empty if an image has none."""

    passwd: bytes = b""
    group: bytes = b""

    def with_user(self, number: int) -> "AccountFiles":
        """The files with a user and a group of this number, in front, unless there is one already."""
        return AccountFiles(
            passwd=_with(f"{NAME}:x:{number}:{number}:GRiD App:{_HOME}:/bin/sh", self.passwd, number),
            group=_with(f"{NAME}:x:{number}:", self.group, number),
        )


def _with(entry: str, content: bytes, number: int) -> bytes:
    wanted = str(number).encode()
    for line in content.split(b"\n"):
        fields = line.split(b":", 3)
        if len(fields) > 2 and fields[2].strip() == wanted:
            return content
    return entry.encode() + b"\n" + content
