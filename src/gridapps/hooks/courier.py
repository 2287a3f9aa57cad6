"""The courier: delivers the events of the outbox. Any number may run, on any machine of the instance.

Each delivery is claimed under a lease, tried in a thread, and settled with the claim's token. When a
courier dies, its leases expire and another one tries again: delivery is at least once.
"""

import hashlib
import hmac
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from uuid import UUID

from django.db import DatabaseError, close_old_connections, connections

from gridapps.audit import context
from gridapps.hooks import deliveries, sealing
from gridapps.hooks.courier_bell import CourierBell
from gridapps.hooks.deliveries import DeliveryClaim
from gridapps.hooks.posting import Poster

logger = logging.getLogger(__name__)

THREADS = 32
SLEEP = 2.0  # seconds; poll interval: retries fall due, and other machines cannot ring
TIDY = 3600.0  # seconds between two removals of old rows


class Courier:
    """Runs until `stop`."""

    def __init__(self, *, poster: Poster, lease: timedelta, pause: float) -> None:
        self._poster = poster
        self._lease = lease
        self._pause = pause
        self._stopping = threading.Event()
        self._guard = threading.Lock()
        self._active: set[UUID] = set()
        self._bell: CourierBell | None = None

    def stop(self) -> None:
        """Ask it to stop; `run` returns when the present tries have ended. Safe in a signal handler."""
        self._stopping.set()
        if self._bell:
            self._bell.ring()

    def run(self) -> None:
        """Deliver until `stop`."""
        renewed = tidied = float("-inf")
        third = self._lease.total_seconds() / 3
        with CourierBell() as self._bell, ThreadPoolExecutor(THREADS, "delivery") as pool:
            while not self._stopping.is_set():
                try:
                    if time.monotonic() - renewed > third:
                        self._renew()
                        renewed = time.monotonic()
                    if time.monotonic() - tidied > TIDY:
                        deliveries.tidy()
                        tidied = time.monotonic()
                    self._fill(pool)
                except DatabaseError as error:
                    logger.warning("The courier cannot work now: %s", error)
                    close_old_connections()
                self._bell.wait(min(SLEEP, third))
        connections.close_all()

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        while not self._stopping.is_set() and len(self._active) < THREADS:
            claim = deliveries.claim(lease=self._lease)
            if claim is None:
                return
            with self._guard:
                self._active.add(claim.token)
            pool.submit(self._deliver, claim)

    def _renew(self) -> None:
        with self._guard:
            tokens = list(self._active)
        if tokens:
            deliveries.renew(tokens=tokens, lease=self._lease)

    def _deliver(self, claim: DeliveryClaim) -> None:
        try:
            with context.bound(hook=claim.hook, delivery=claim.key):
                self._try(claim)
        except Exception:
            # The lease expires, and the delivery is tried again.
            logger.exception("delivery %s: its thread died", claim.key)
        finally:
            connections.close_all()
            with self._guard:
                self._active.discard(claim.token)
            if self._bell:
                self._bell.ring()

    def _try(self, claim: DeliveryClaim) -> None:
        body = _body(claim)
        try:
            headers = _headers(claim, body)
        except sealing.CannotOpen as error:
            logger.error("delivery %s: %s", claim.key, error)  # noqa: TRY400 - the sentence says all
            deliveries.given_up(claim=claim, error="The hook's secret cannot be read: renew it.")
            return
        outcome = self._poster.post(claim.target, headers=headers, body=body)
        logger.info(
            "delivery %s of %s to hook %s, try %s: %s",
            claim.key, claim.event, claim.hook, claim.tries,
            outcome.detail or outcome.error or outcome.status,
        )  # fmt: skip
        if outcome.status == 410:
            deliveries.gone(claim=claim)
        elif outcome.error or outcome.status is None:
            deliveries.failed(claim=claim, status=outcome.status, error=outcome.error, pause=self._pause)
        else:
            deliveries.delivered(claim=claim, status=outcome.status)


def _body(claim: DeliveryClaim) -> bytes:
    message = {
        "event": claim.event,
        "hook": str(claim.hook),
        "delivery": str(claim.key),
        "created_at": claim.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        **claim.facts,
    }
    return json.dumps(message, separators=(",", ":")).encode()


def _headers(claim: DeliveryClaim, body: bytes) -> dict[str, str]:
    """Headers by which a receiver recognises forged, old and repeated events."""
    timestamp = str(int(datetime.now(UTC).timestamp()))
    signature = hmac.new(
        sealing.opened(claim.sealed_secret).encode(), timestamp.encode() + b"." + body, hashlib.sha256
    )
    return {
        "Content-Type": "application/json",
        "User-Agent": f"GRiD-Apps/{version('gridapps')}",
        "X-GRiD-Event": claim.event,
        "X-GRiD-Delivery": str(claim.key),
        "X-GRiD-Timestamp": timestamp,
        "X-GRiD-Signature": f"sha256={signature.hexdigest()}",
    }
