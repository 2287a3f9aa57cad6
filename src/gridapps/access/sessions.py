"""Sessions whose keys are stored as hashes, so that a copy of the database has no usable cookie."""

import hashlib
from typing import Any

from django.contrib.sessions.backends.db import SessionStore as Plain
from django.utils import timezone


def stored(session_key: str) -> str:
    """The key under which a session is stored. Cookies are random, so a fast hash is enough."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:40]


class SessionStore(Plain):
    """Django's store, with hashed keys."""

    def _get_session_from_db(self) -> Any:
        found = self._alive().first()
        if found is None:
            self._session_key = None
        return found

    async def _aget_session_from_db(self) -> Any:
        found = await self._alive().afirst()
        if found is None:
            self._session_key = None
        return found

    def _alive(self) -> Any:
        key = stored(self.session_key or "")
        return self.model.objects.filter(session_key=key, expire_date__gt=timezone.now())

    def exists(self, session_key: str) -> bool:
        """Whether there is a session of this cookie."""
        return super().exists(stored(session_key))

    async def aexists(self, session_key: str) -> bool:
        """As `exists`."""
        return await super().aexists(stored(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        """The row of the session."""
        return _hashed(super().create_model_instance(data))

    async def acreate_model_instance(self, data: dict[str, Any]) -> Any:
        """As `create_model_instance`."""
        return _hashed(await super().acreate_model_instance(data))

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session of this cookie; by default its own."""
        if key := session_key or self.session_key:
            super().delete(stored(key))

    async def adelete(self, session_key: str | None = None) -> None:
        """As `delete`."""
        if key := session_key or self.session_key:
            await super().adelete(stored(key))


def _hashed(row: Any) -> Any:
    row.session_key = stored(row.session_key)
    return row
