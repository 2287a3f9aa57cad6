"""Calls about the user: the account, developer status, client certificates and hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gridapps_client.address import segment
from gridapps_client.calls import one
from gridapps_client.connection import Connection
from gridapps_client.decoding import decode, member
from gridapps_client.models import (
    Certificate,
    Delivery,
    Developer,
    Hook,
    IssuedCertificate,
    Me,
)


class AccountCalls(Connection):
    """Calls about the user: the account, developer status, client certificates and hooks."""

    def me(self) -> Me:
        """The user whom the token belongs to."""
        return decode(Me, member(self._calls.json("GET", "/me"), "user"), where="user")

    def developer(self) -> Developer:
        """The state of your request to become a developer."""
        answer = self._calls.json("GET", "/developer")
        return decode(Developer, member(answer, "developer"), where="developer")

    def request_developer(self, *, statement: str) -> Developer:
        """Ask to become a developer; an administrator decides."""
        answer = self._calls.json("POST", "/developer", body={"statement": statement})
        return decode(Developer, member(answer, "developer"), where="developer")

    def certificates(self) -> Iterator[Certificate]:
        """Your client certificates."""
        return self._calls.pages(Certificate, "/developer/certificates", "certificates")

    def create_certificate(self, *, name: str, csr: str | None = None) -> IssuedCertificate:
        """A new client certificate for the key of `csr` (PEM). Without one, the instance makes a key and
        returns it only this once.
        """
        body = {"name": name} if csr is None else {"name": name, "csr": csr}
        return decode(IssuedCertificate, self._calls.json("POST", "/developer/certificates", body=body))

    def revoke_certificate(self, serial: str) -> None:
        """Revoke a certificate at once. Revoking it again changes nothing."""
        self._calls.json("DELETE", f"/developer/certificates/{segment(serial)}")

    def hooks(self) -> Iterator[Hook]:
        """Your hooks, including those of single runs."""
        return self._calls.pages(Hook, "/hooks", "hooks")

    def create_hook(self, *, target: str, events: Sequence[str]) -> tuple[Hook, str]:
        """Have events POSTed to a URL. Returns the hook and its signing secret, which is shown only once."""
        answer = self._calls.json("POST", "/hooks", body={"target": target, "event": ",".join(events)})
        return one(Hook, answer, "hooks"), decode(str, member(answer, "secret"), where="secret")

    def delete_hook(self, pk: str) -> None:
        """Delete a hook and its pending deliveries."""
        self._calls.json("DELETE", f"/hooks/{segment(pk)}")

    def test_hook(self, pk: str) -> Delivery:
        """Have a test event delivered once, soon."""
        return one(Delivery, self._calls.json("POST", f"/hooks/{segment(pk)}/test"), "deliveries")

    def hook_deliveries(self, pk: str) -> Iterator[Delivery]:
        """The deliveries of a hook, newest first."""
        return self._calls.pages(Delivery, f"/hooks/{segment(pk)}/deliveries", "deliveries")
