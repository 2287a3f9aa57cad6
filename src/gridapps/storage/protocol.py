"""What may go wrong with a storage."""


class StorageUnavailable(Exception):
    """The storage does not answer, or is not mounted here: ask again later. The message is a sentence."""
