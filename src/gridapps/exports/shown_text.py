"""Text from a file, made fit for sentences that users read."""

_LONGEST = 200


def first_line(error: BaseException) -> str:
    """The first line of an error's text, with its type if the text is a word or nothing."""
    text = (str(error).strip().splitlines() or [""])[0]
    return printable(text if " " in text else f"{type(error).__name__} {text}".strip())


def printable(text: str, *, most: int = _LONGEST) -> str:
    """The text without characters that could control a terminal, at most `most` characters."""
    shown = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text[:most])
    return shown[:most]


def decoded(raw: bytes) -> str:
    """Text up to its first zero. Old programs write Latin-1, although the specification says UTF-8."""
    raw = raw.partition(b"\0")[0]
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
