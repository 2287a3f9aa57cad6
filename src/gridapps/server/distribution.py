"""Configuration and environment of the two registries, CNCF Distribution, as child processes.

The trusted registry differs in its port, its storage, and the tokens that it accepts.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from django.utils.crypto import salted_hmac

from gridapps.config.environment import Environment
from gridapps.pki import tokens
from gridapps.pki.tokens import Registry
from gridapps.pushes.disk import STORAGE


def realm(environment: Environment) -> str:
    """The URL where clients get tokens."""
    return f"{environment.origin}/registry/token"


def challenge(environment: Environment) -> str:
    """The WWW-Authenticate header that sends clients to the realm."""
    return f'Bearer realm="{realm(environment)}",service="{Registry.DEVELOPER}"'


def port(environment: Environment, service: Registry) -> int:
    """The loopback port of a registry."""
    return environment.registry_port if service is Registry.DEVELOPER else environment.trusted_port


def configuration(environment: Environment, service: Registry, *, secret: str) -> str:
    """A registry's configuration file. It is JSON, a subset of YAML that json.dumps quotes."""
    data = environment.data.absolute()
    return json.dumps(
        {
            "version": "0.1",
            "log": {"level": "error", "formatter": "text", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(data / STORAGE[service])},
                "delete": {"enabled": False},
                "redirect": {"disable": True},
                # The housekeeper removes abandoned uploads, and unlike the registry spares slow ones.
                "maintenance": {"uploadpurging": {"enabled": False}},
                # No "cache": the process must notice what the housekeeper removes.
            },
            "http": {
                "addr": f"127.0.0.1:{port(environment, service)}",
                # The same after a restart, so that uploads continue.
                "secret": secret,
                # Otherwise a push through nginx would be redirected to the loopback address.
                "relativeurls": True,
                "headers": {"X-Content-Type-Options": ["nosniff"]},
            },
            "auth": {
                "token": {
                    "realm": realm(environment),
                    "service": service.value,
                    "issuer": tokens.ISSUER,
                    "rootcertbundle": str(data / "authority" / "token.crt"),
                }
            },
            "health": {"storagedriver": {"enabled": False}},
        },
        indent=2,
    )


def write(environment: Environment, service: Registry = Registry.DEVELOPER) -> Path:
    """Write the configuration below the data directory and return its path."""
    data = environment.data.absolute()
    key = (data / "secret-key").read_text()
    secret = salted_hmac("gridapps.registry.http", "upload state", secret=key, algorithm="sha256").hexdigest()
    path = data / "run" / f"{STORAGE[service]}.json"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(configuration(environment, service, secret=secret))
    return path


def clean_environment() -> Mapping[str, str]:
    """The environment of the process. Distribution reads REGISTRY_* and AWS_*, so these are not passed on."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "OTEL_TRACES_EXPORTER": "none",
    }
