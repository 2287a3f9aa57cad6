"""The typed client: a method for each call of docs/api.md, which pages through lists, and waits for runs."""

from __future__ import annotations

from gridapps_client.account_calls import AccountCalls
from gridapps_client.app_calls import AppCalls
from gridapps_client.configuration import Configuration
from gridapps_client.export_calls import ExportCalls
from gridapps_client.login import Renewal
from gridapps_client.run_calls import RunCalls


class Client(AccountCalls, AppCalls, ExportCalls, RunCalls):
    """An instance, as one user sees it. Every method raises a GridAppsError with a sentence when it fails."""

    @classmethod
    def configured(cls, url: str | None = None) -> Client:
        """The client of an instance known from `gridapps login` or from GRIDAPPS_URL and GRIDAPPS_TOKEN."""
        configuration = Configuration()
        instance = configuration.instance(url)
        return cls(instance.url, token=instance.token, ca=instance.ca, renew=Renewal(configuration, instance))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
