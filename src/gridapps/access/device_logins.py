"""Login of a terminal without a browser: the device authorization grant (RFC 8628).

The terminal begins, shows a short code, and asks until a user has entered the code in a browser and decided.
Only hashes of codes are stored. docs/decisions/0300 says why the library's own implementation is not used.
"""

import hashlib
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import IntegrityError, transaction
from django.utils import timezone

from gridapps.access.errors import TooManyCodes, UnknownCode
from gridapps.access.models import DeviceLogin, User, WrongCodes
from gridapps.audit import record

LIFETIME = timedelta(minutes=10)
INTERVAL = 5  # seconds between two questions; each question too early adds as many
MAX_PENDING = 10_000
MAX_WRONG = 10  # codes of one user in LIFETIME
# Consonants only, so that no words appear, and without digits that look like letters (RFC 8628, 6.1).
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
LENGTH = 8  # 2.6e10 codes: with all logins pending, 10 guesses find one with a probability of 4e-6


@dataclass(frozen=True)
class Begun:
    """What the terminal needs. `user_code` is `XXXX-XXXX`."""

    device_code: str
    user_code: str


class Refusal(StrEnum):
    """Why a terminal gets no token: the error codes of RFC 8628, 3.5."""

    PENDING = "authorization_pending"
    TOO_EARLY = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"
    UNKNOWN = "invalid_grant"


def begin(*, scopes: Iterable[str], address: str | None) -> Begun:
    """Begin a login. `address`: of the terminal, for the user who decides. Raises TooManyCodes."""
    now = timezone.now()
    forget_expired(now)
    if DeviceLogin.objects.count() >= MAX_PENDING:
        raise TooManyCodes("Too many logins of devices wait; try again in ten minutes.")
    begun = Begun(secrets.token_urlsafe(32), _new_user_code())
    try:
        with transaction.atomic():
            DeviceLogin.objects.create(
                device_code=_hash(begun.device_code),
                user_code=_hash(_plain(begun.user_code)),
                scopes=list(scopes),
                address=address,
                interval=INTERVAL,
                expires_at=now + LIFETIME,
            )
    except IntegrityError:  # another login has this code by chance
        return begin(scopes=scopes, address=address)
    return begun


def waiting(*, user: User, code: str) -> DeviceLogin:
    """The login that waits for this code. Raises UnknownCode, and TooManyCodes after too many wrong ones."""
    with transaction.atomic():
        now = timezone.now()
        _check_tries(user, now)
        found = DeviceLogin.objects.filter(
            user_code=_hash(_plain(code)), state=DeviceLogin.State.PENDING, expires_at__gt=now
        ).first()
        if found is None:
            _count_wrong(user, now)
    if found is None:
        raise UnknownCode("This code is wrong, or has expired. Start the login in the terminal again.")
    return found


def decide(*, by: User, code: str, allow: bool) -> None:
    """Allow or refuse the login that waits for this code. Raises UnknownCode, TooManyCodes."""
    login = waiting(user=by, code=code)
    state = DeviceLogin.State.ALLOWED if allow else DeviceLogin.State.REFUSED
    with transaction.atomic():
        rows = DeviceLogin.objects.filter(pk=login.pk, state=DeviceLogin.State.PENDING)
        if not rows.update(state=state, user=by):
            raise UnknownCode("Another user, or another window, has decided about this login already.")
        recorded = record.device_allowed if allow else record.device_refused
        recorded(user=by, scopes=login.scopes, terminal=login.address)


def collect(*, device_code: str) -> tuple[User, Sequence[str]] | Refusal:
    """The user and the scopes for the terminal's token, only once; or why there is none (yet).

    Call it in the transaction that stores the token.
    """
    now = timezone.now()
    login = DeviceLogin.objects.select_for_update(of=("self",)).filter(pk=_hash(device_code)).first()
    if login is None:
        return Refusal.UNKNOWN
    if login.expires_at <= now:
        return Refusal.EXPIRED
    if login.user is not None:
        login.delete()
        allowed = login.state == DeviceLogin.State.ALLOWED and login.user.is_active
        return (login.user, login.scopes) if allowed else Refusal.DENIED
    early = login.asked_at is not None and now - login.asked_at < timedelta(seconds=login.interval)
    login.interval += INTERVAL if early else 0
    login.asked_at = now
    login.save(update_fields=["interval", "asked_at"])
    return Refusal.TOO_EARLY if early else Refusal.PENDING


def forget_expired(now: datetime) -> None:
    """Delete logins that expired a lifetime ago; terminals have read by then that they are expired."""
    DeviceLogin.objects.filter(expires_at__lt=now - LIFETIME).delete()


def _new_user_code() -> str:
    code = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return f"{code[:4]}-{code[4:]}"


def _plain(code: str) -> str:
    """The letters of a code as typed: in lower case, with spaces, with or without the hyphen."""
    return "".join(letter for letter in code[:100].upper() if letter in ALPHABET)


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _check_tries(user: User, now: datetime) -> None:
    tries = WrongCodes.objects.select_for_update().filter(user=user, since__gt=now - LIFETIME).first()
    if tries is not None and tries.count >= MAX_WRONG:
        raise TooManyCodes(f"You have entered {MAX_WRONG} wrong codes; wait ten minutes.")


def _count_wrong(user: User, now: datetime) -> None:
    tries, _ = WrongCodes.objects.get_or_create(user=user, defaults={"since": now, "count": 0})
    if tries.since <= now - LIFETIME:
        tries.since, tries.count = now, 0
    tries.count += 1
    tries.save()
