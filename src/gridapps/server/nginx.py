"""Configuration and environment of nginx, the one TLS port of an instance, as a child process.

`nginx_templates` holds the configuration. docs/decisions/0030-registry-behind-one-port.md gives the reasons.
"""

import ipaddress
import json
import os
import resource
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from django.template import Context, Engine

from gridapps.api.registry.refusals import refusal
from gridapps.config.environment import Environment
from gridapps.exports.upload_states import MAX_PART
from gridapps.pushes.portions import portions
from gridapps.sandbox.resources import shown
from gridapps.server import distribution, layout

CONNECTIONS = 8192  # of each worker process
_FILES = 2 * CONNECTIONS + 1024
_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>{heading} · GRiD Apps</title>'
    '<link rel="stylesheet" href="/static/gridapps/style.css"></head><body><header>'
    '<a class="brand" href="/">GRiD Apps</a></header><main id="main"><section class="narrow">'
    "<h1>{heading}</h1><p>{sentence}</p>"
    '<p><a href="/">To your runs and Apps</a></p></section></main></body></html>'
)
_ABSENT = "<absent value>"  # what Django's engine puts for a name that has no value
_ENGINE = Engine(dirs=[str(Path(__file__).parent / "nginx_templates")], string_if_invalid=_ABSENT)


def configuration(environment: Environment, *, user: str = "") -> str:
    """nginx's configuration file. `user`: account and group of the workers, where nginx starts as root."""
    data = environment.data.absolute()
    ipv6 = ipaddress.ip_address(environment.listen).version == 6
    address = f"[{environment.listen}]" if ipv6 else environment.listen
    values = {
        "data": _path(data),
        "outputs": _path(environment.shared / "outputs"),
        "sockets": [_path(socket) for socket in layout.sockets(data, environment.processes)],
        "user": user,
        "files": _files(),
        "connections": CONNECTIONS,
        "max_connections": environment.max_connections,
        "registry_port": environment.registry_port,
        "trusted_port": environment.trusted_port,
        "listen": f"{address}:{environment.port}",
        "origin": environment.origin,
        "authority": environment.authority,
        "part": MAX_PART,
        "largest_upload": 2 * environment.max_image,
        "portions": list(portions(environment.max_image)),
        "challenge": _text(distribution.challenge(environment)),
        "refusals": {name: _text(json.dumps(body)) for name, body in _refusals(environment).items()},
        "shown": list(_shown(environment)),
        "certificate": False,
        "original": False,
    }
    text = _ENGINE.get_template("nginx.conf").render(Context(values, autoescape=False, use_l10n=False))
    if _ABSENT in text:
        raise ValueError("A template of nginx's configuration names a value that is not there.")
    return "".join(line for line in text.splitlines(keepends=True) if line.strip())


def write(environment: Environment, *, user: str = "") -> Path:
    """Write the configuration below the data directory and return its path."""
    path = environment.data.absolute() / "run" / "nginx.conf"
    path.touch(mode=0o600)
    path.write_text(configuration(environment, user=user))
    return path


def clean_environment() -> Mapping[str, str]:
    """The environment of the process: none of the instance's own variables."""
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _refusals(environment: Environment) -> dict[str, dict[str, object]]:
    """The bodies that nginx itself sends; those for registry clients in the form that these print."""
    limit = shown("disk", environment.max_image)
    unavailable = "The instance is not available; try again in a moment."
    connections = f"Too many connections from your address at once; at most {environment.max_connections}."
    return {
        "certificate": refusal("The client certificate cannot be used: $ssl_client_verify."),
        "image_too_large": refusal(f"The upload is too large: an image may have at most {limit}."),
        "registry_unavailable": refusal(unavailable, code="UNAVAILABLE"),
        "registry_too_many_connections": refusal(connections, code="TOOMANYREQUESTS"),
        "part_too_large": {
            "error": f"A part of an upload has at most {MAX_PART} bytes.",
            "code": "too-large",
        },
        "range_not_satisfiable": {
            "error": "The file ends before the range begins.",
            "code": "range-not-satisfiable",
        },
        "too_large": {"error": "The request is larger than 2 MiB. Nothing was changed.", "code": "too-large"},
        "too_many_guesses": {
            "error": "Too many attempts from your address; wait a minute.",
            "code": "too-many-guesses",
        },
        "too_many_connections": {"error": connections, "code": "too-many-connections"},
        "unavailable": {"error": unavailable, "code": "unavailable"},
    }


def _shown(environment: Environment) -> Iterator[dict[str, str]]:
    """The refusals that programs and people read, in both forms."""
    bodies = _refusals(environment)
    for name, status, retry, heading in (
        ("too_large", "413", "", "Too large"),
        ("too_many_guesses", "429", "60", "Too many attempts"),
        ("too_many_connections", "429", "5", "Too many connections"),
        ("unavailable", "503", "5", "Not available"),
    ):
        page = _PAGE.format(heading=heading, sentence=escape(str(bodies[name]["error"])))
        yield {
            "name": name,
            "status": status,
            "retry": retry,
            "json": _text(json.dumps(bodies[name])),
            "page": _text(page),
        }


def _files() -> int:
    """Descriptors that a worker process may open."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)


def _text(text: str) -> str:
    """The text as a string of nginx's configuration."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _path(path: Path) -> str:
    """The path, for use inside double quotes. Raises ValueError for one that nginx cannot take."""
    if any(character in str(path) for character in "\"\\$'\r\n;{}"):
        raise ValueError(
            f"GRIDAPPS_DATA or GRIDAPPS_STORAGE has a character that nginx cannot take in a path: {path}"
        )
    return str(path)
