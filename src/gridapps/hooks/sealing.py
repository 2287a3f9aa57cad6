"""Encryption of the hooks' secrets with a key that is not in the database: the instance's `secret-key`."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.utils.crypto import salted_hmac

_VERSION = "1:"


class CannotOpen(Exception):
    """The secret was encrypted with another key."""


def sealed(secret: str) -> str:
    """The secret, encrypted with the present key."""
    return _VERSION + _box().encrypt(secret.encode()).decode()


def opened(text: str) -> str:
    """The decrypted secret, with the present key or an older one. Raises CannotOpen."""
    try:
        return _box().decrypt(text.removeprefix(_VERSION)).decode()
    except InvalidToken:
        raise CannotOpen(
            "The secret of a hook was encrypted with a key that is not in `secret-key`: add that key as "
            "another line, or have the owner renew the secret."
        ) from None


def is_sealed(text: str) -> bool:
    """Whether this is encrypted; secrets of older versions were not."""
    return text.startswith(_VERSION + "gAAAA")


def is_present(text: str) -> bool:
    """Whether this was encrypted with the present key."""
    try:
        Fernet(_key(settings.SECRET_KEY)).decrypt(text.removeprefix(_VERSION))
    except InvalidToken:
        return False
    return True


def _box() -> MultiFernet:
    """The present key, followed by older ones, which only decrypt."""
    return MultiFernet([Fernet(_key(key)) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def _key(secret_key: str) -> bytes:
    derived = salted_hmac("gridapps.hooks.sealing", "secrets", secret=secret_key, algorithm="sha256")
    return urlsafe_b64encode(derived.digest())
