"""Authorization codes: stored as hashes. A second use revokes the tokens of the first (RFC 6749, 4.1.2)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauth2_provider.settings import oauth2_settings
from oauthlib.oauth2 import InvalidGrantError

from gridapps.access.models import SpentCode


def stored(code: str) -> str:
    """The hash that is stored."""
    return hashlib.sha256(code.encode()).hexdigest()


@contextmanager
def _still_there() -> Iterator[None]:
    """Another request may use the code between two calls of the validator."""
    try:
        yield
    except Grant.DoesNotExist:
        raise InvalidGrantError from None


class Validator(OAuth2Validator):  # type: ignore[misc]
    """Finds codes by their hashes."""

    def _create_authorization_code(self, request: Any, code: Any, expires: Any = None) -> Any:
        return super()._create_authorization_code(request, {**code, "code": stored(code["code"])}, expires)

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the code was issued for this address."""
        return bool(
            super().confirm_redirect_uri(client_id, stored(code), redirect_uri, client, *args, **kwargs)
        )

    def validate_code(
        self, client_id: str, code: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether the code is valid. A code that was used before revokes its tokens."""
        if super().validate_code(client_id, stored(code), client, request, *args, **kwargs):
            return True
        _revoke_issued_for(code, client)
        return False

    def get_code_challenge(self, code: str, request: Any) -> Any:
        """The challenge of the code."""
        with _still_there():
            return super().get_code_challenge(stored(code), request)

    def get_code_challenge_method(self, code: str, request: Any) -> Any:
        """The method of the code's challenge."""
        with _still_there():
            return super().get_code_challenge_method(stored(code), request)

    def get_authorization_code_scopes(self, client_id: str, code: str, uri: str, request: Any) -> Any:
        """The scopes of the code."""
        with _still_there():
            return super().get_authorization_code_scopes(client_id, stored(code), uri, request)

    def get_authorization_code_nonce(self, client_id: str, code: str, uri: str, request: Any) -> Any:
        """The nonce of the code."""
        with _still_there():
            return super().get_authorization_code_nonce(client_id, stored(code), uri, request)

    def _save_bearer_token(self, token: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        saved = super()._save_bearer_token(token, request, *args, **kwargs)
        request.issued = _issued(token)
        return saved

    def invalidate_authorization_code(
        self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Mark the code as used. If two requests use it at once, none of their tokens stays valid."""
        access_token, family = request.issued
        try:
            with transaction.atomic():
                super().invalidate_authorization_code(client_id, stored(code), request, *args, **kwargs)
                _forget_old()
                SpentCode.objects.create(
                    code=stored(code), application=request.client, access_token=access_token, family=family
                )
        except InvalidGrantError:
            _revoke(access_token, family)
            _revoke_issued_for(code, request.client)
            raise


def _issued(token: Any) -> tuple[int, UUID | None]:
    """The access token and the family of the refresh token that were saved."""
    access_token = AccessToken.objects.get(token_checksum=stored(token["access_token"]))
    refresh = RefreshToken.objects.filter(access_token=access_token).first()
    return access_token.pk, refresh.token_family if refresh else None


def _revoke_issued_for(code: str, client: Any) -> None:
    for spent in SpentCode.objects.filter(code=stored(code), application=client):
        _revoke(spent.access_token, spent.family)


def _revoke(access_token: int, family: UUID | None) -> None:
    RefreshToken.revoke_family(family)
    AccessToken.objects.filter(pk=access_token).delete()


def _forget_old() -> None:
    """Forget codes whose tokens have expired."""
    longest = timedelta(seconds=oauth2_settings.REFRESH_TOKEN_EXPIRE_SECONDS)
    SpentCode.objects.filter(used_at__lt=timezone.now() - 2 * longest).delete()
