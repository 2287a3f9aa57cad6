"""Configuration and environment of nginx, the one TLS port of an instance, as a child process.

Pages and API go to the application. `/v2/` goes to the developer registry, but each request only after the
application has judged the client certificate. What clients send as certificate or forwarding headers never
gets through. docs/decisions/0030-registry-behind-one-port.md says why.
"""

import ipaddress
import json
import os
from collections.abc import Mapping
from pathlib import Path

from gridapps.api.registry.refusals import refusal
from gridapps.config.environment import Environment
from gridapps.pushes.portions import portions
from gridapps.server import distribution, layout, nginx_limits

MAX_REQUEST = "2m"  # beside a body of 1 MiB of arguments there is a little JSON
MAX_MANIFEST = "5m"  # the application itself refuses beyond 4 MiB, with a sentence

_TYPES = {
    "text/html": "html", "text/css": "css", "text/javascript": "js", "text/plain": "txt",
    "image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg", "image/x-icon": "ico",
    "font/woff2": "woff2",
}  # fmt: skip


def configuration(environment: Environment, *, user: str = "") -> str:
    """nginx's configuration file. `user`: account and group of the workers, where nginx starts as root."""
    data = environment.data.absolute()
    return "\n".join(
        [
            "daemon off;",
            f"pid {_quoted(data / 'run' / 'nginx' / 'pid')};",
            "error_log stderr error;",
            *([f"user {user};"] if user else []),
            "worker_processes auto;",
            *nginx_limits.of_processes(),
            *_block("events", f"worker_connections {nginx_limits.WORKER_CONNECTIONS};"),
            *_block(
                "http",
                *_general(environment),
                *nginx_limits.of_clients(environment),
                *_block(
                    "upstream application",
                    "least_conn;",
                    *(
                        f"server {_quoted(f'unix:{socket}')};"
                        for socket in layout.sockets(data, environment.processes)
                    ),
                    "keepalive 16;",
                ),
                *_block(
                    "upstream registry", f"server 127.0.0.1:{environment.registry_port};", "keepalive 16;"
                ),
                *_block("upstream trusted", f"server 127.0.0.1:{environment.trusted_port};", "keepalive 16;"),
                # A manifest is judged by the application before the registry sees it.
                *_block("map $request_method $manifests", "PUT application;", "default registry;"),
                # Where a body goes that tells no length: the application says how much it may be.
                *_block("map $portion $place", 'default "@registry_unavailable";', '"~^@portion_" $portion;'),
                *_block("server", *_server(environment)),
            ),
            "",
        ]
    )


def write(environment: Environment, *, user: str = "") -> Path:
    """Write the configuration below the data directory and return its path."""
    path = environment.data.absolute() / "run" / "nginx.conf"
    path.touch(mode=0o600)
    path.write_text(configuration(environment, user=user))
    return path


def clean_environment() -> Mapping[str, str]:
    """What the process is started with: nothing of ours is in it."""
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _general(environment: Environment) -> list[str]:
    temporary = environment.data.absolute() / "run" / "nginx"
    return [
        "server_tokens off;",
        "access_log off;",
        "default_type application/octet-stream;",
        *_block("types", *(f"{kind} {ending};" for kind, ending in _TYPES.items())),
        "sendfile on;",
        "tcp_nopush on;",
        f"client_max_body_size {MAX_REQUEST};",
        "proxy_http_version 1.1;",
        "proxy_connect_timeout 5s;",
        # A redirect to the login repeats the address that was asked for, and encodes it.
        "proxy_buffer_size 32k;",
        "proxy_buffers 8 16k;",
        "proxy_busy_buffers_size 48k;",
        # A slow reader slows its own stream down; nothing is spooled to disk on the way.
        "proxy_max_temp_file_size 0;",
        *(
            f"{kind}_temp_path {_quoted(temporary / kind)};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
    ]


def _server(environment: Environment) -> list[str]:
    authority = environment.data.absolute() / "authority"
    host = (
        f"[{environment.listen}]"
        if ipaddress.ip_address(environment.listen).version == 6
        else environment.listen
    )
    return [
        f"listen {host}:{environment.port} ssl;",
        "server_name _;",
        # The host of a redirect would be the one that the client sent.
        "absolute_redirect off;",
        f"ssl_certificate {_quoted(authority / 'server.crt')};",
        f"ssl_certificate_key {_quoted(authority / 'server.key')};",
        "ssl_protocols TLSv1.2 TLSv1.3;",
        "ssl_ciphers ECDHE+AESGCM:ECDHE+CHACHA20;",
        "ssl_session_cache shared:tls:4m;",
        "ssl_session_tickets off;",
        # The list of one authority keeps browsers from asking people about certificates of other purposes.
        # The application judges chain, expiry, revocation and holder.
        f"ssl_client_certificate {_quoted(authority / 'ca.crt')};",
        "ssl_verify_client optional_no_ca;",
        "ssl_verify_depth 1;",
        "error_page 495 = @certificate;",
        f"error_page 497 =301 {environment.origin}$request_uri;",
        "error_page 413 = @too_large;",
        "error_page 429 = @too_many_connections;",
        "error_page 502 504 = @unavailable;",
        *_registry(environment),
        *_pages(environment),
        *_refusals(environment),
    ]


def _registry(environment: Environment) -> list[str]:
    """Locations of the developer registry, and of the tokens with which clients begin."""
    # A registry would log or repeat the others.
    chosen = {"Host": environment.authority, "Cookie": "", "User-Agent": "", "Referer": ""}
    certificate = {**chosen, "X-Client-Certificate": "$ssl_client_escaped_cert"}
    judged = [
        *_distrusted(),
        "auth_request /internal/authorize;",
        "auth_request_set $registry_authorization $upstream_http_x_registry_authorization;",
        "auth_request_set $refusal $upstream_http_x_refusal;",
        "auth_request_set $portion $upstream_http_x_portion;",
        "error_page 401 = @refused;",
        "error_page 413 = @image_too_large;",
        "error_page 429 = @registry_too_many_connections;",
        "error_page 500 502 504 = @registry_unavailable;",
        "client_body_timeout 60s;",
        # The client's own token is not passed on: the certificate alone counts, at every request.
        *_headers({"Authorization": "$registry_authorization", **certificate}),
        "proxy_read_timeout 300s;",
    ]
    return [
        # Its 401 tells a client where tokens come from.
        *_block(
            "location = /v2/",
            "error_page 429 = @registry_too_many_connections;",
            "error_page 500 502 504 = @registry_unavailable;",
            *_distrusted(),
            *_headers(chosen),
            "proxy_pass http://registry;",
        ),
        *_block(
            "location /v2/",
            *judged,
            "error_page 403 = $place;",
            "recursive_error_pages on;",
            # A layer that alone is too large is refused with its manifest, at once. This is for the disk:
            # docker repeats what ends here for a minute.
            f"client_max_body_size {2 * environment.max_image};",
            "proxy_request_buffering off;",
            "proxy_pass http://registry;",
        ),
        *_portions(environment, certificate),
        # nginx takes the first expression that matches. This one has to come before the next: a shared App
        # may be called `manifests`. Other machines' nodes pull here; other methods are judged and refused.
        *_block(
            "location ~ ^/v2/grid/[^/]+/(manifests|blobs)/",
            *judged,
            "client_max_body_size 1k;",
            "proxy_pass http://trusted;",
        ),
        *_block(
            "location ~ ^/v2/[^/]+/manifests/",
            *judged,
            f"client_max_body_size {MAX_MANIFEST};",
            "proxy_pass http://$manifests;",
        ),
        *_block(
            "location = /internal/authorize",
            "internal;",
            # The length of a body that stays outside is held against the limit of this location, too.
            "client_max_body_size 0;",
            "proxy_pass_request_body off;",
            "proxy_pass_request_headers off;",
            *_headers(
                {
                    "Content-Length": "",
                    "X-Original-Method": "$request_method",
                    "X-Original-URI": "$request_uri",
                    "X-Original-Length": "$content_length",
                    "X-Original-Transfer-Encoding": "$http_transfer_encoding",
                    **certificate,
                },
            ),
            "proxy_pass http://application/registry/authorize;",
        ),
        *_block(
            "location = /registry/token",
            "error_page 429 = @registry_too_many_connections;",
            "error_page 502 504 = @registry_unavailable;",
            *_headers(certificate),
            "proxy_pass http://application;",
        ),
        *_block("location /registry/", "return 404;"),
    ]


def _distrusted() -> list[str]:
    """Limits what the answers of a registry can do: developers feed it, and its origin is that of the pages.

    X-Accel-Redirect would open internal locations, such as those of outputs.
    """
    return [
        "proxy_ignore_headers X-Accel-Redirect X-Accel-Expires X-Accel-Limit-Rate X-Accel-Buffering "
        "X-Accel-Charset;",
        *(
            f"proxy_hide_header {name};"
            for name in ("Set-Cookie", "Content-Security-Policy", "X-Content-Type-Options")
        ),
        "add_header X-Content-Type-Options nosniff always;",
        "add_header Content-Security-Policy \"default-src 'none'; sandbox\" always;",
    ]


def _portions(environment: Environment, certificate: Mapping[str, str]) -> list[str]:
    """Where uploads go on whose bodies tell no length: beyond the size in the name they are ended.

    nginx takes the size from the location, never from a variable, so there is one for each.
    """
    lines = []
    for portion in portions(environment.max_image):
        lines += _block(
            f"location @portion_{portion}",
            *_distrusted(),
            "error_page 413 = @portion_used_up;",
            "error_page 500 502 504 = @registry_unavailable;",
            *_headers({"Authorization": "$registry_authorization", **certificate}),
            "proxy_read_timeout 300s;",
            f"client_max_body_size {portion};",
            "proxy_request_buffering off;",
            "proxy_pass http://registry;",
        )
    return lines


def _pages(environment: Environment) -> list[str]:
    """Locations of pages, API, outputs and static files."""
    data, outputs = environment.data.absolute(), environment.shared / "outputs"
    return [
        *_block(
            "location /",
            *_headers({}),
            "proxy_read_timeout 120s;",  # a long poll waits for up to a minute
            "proxy_pass http://application;",
        ),
        *_block(
            f'location ~ "{nginx_limits.GUESSED}"',
            f"limit_req zone=guesses burst={nginx_limits.GUESSES_AT_ONCE} nodelay;",
            "error_page 429 = @too_many_guesses;",
            *_headers({}),
            "proxy_pass http://application;",
        ),
        *_block(
            "location = /metrics",
            f"limit_req zone=metrics burst={nginx_limits.METRICS_AT_ONCE} nodelay;",
            "error_page 429 = @too_many_guesses;",
            *_headers({}),
            "proxy_pass http://application;",
        ),
        *_block(
            "location ~ ^/api/v3/runs/[^/]+/log$",
            *_headers({}),
            "proxy_buffering off;",
            "proxy_read_timeout 1h;",
            "proxy_pass http://application;",
        ),
        # The application answers X-Accel-Redirect here after it has judged who asks. A program of a stranger
        # made the files: a browser must neither guess their type nor run what is in them.
        *_block(
            "location /internal/outputs/",
            "internal;",
            f"alias {_quoted(str(outputs) + '/')};",
            f"disable_symlinks on {_quoted('from=' + str(outputs))};",
            "add_header X-Content-Type-Options nosniff always;",
            "add_header Content-Security-Policy \"default-src 'none'; sandbox\" always;",
        ),
        *_block(
            "location /static/",
            f"alias {_quoted(str(data / 'static') + '/')};",
            "add_header X-Content-Type-Options nosniff always;",
            "expires 1h;",
        ),
    ]


def _refusals(environment: Environment) -> list[str]:
    """What nginx answers by itself: always JSON with a sentence, in the form that its clients print."""
    limit = environment.max_image
    fault = "The client certificate cannot be used: $ssl_client_verify."
    unavailable = "The instance is starting or in trouble; try again in a moment."
    guesses = "Too many attempts from your address; wait a minute."
    connections = f"Too many connections from your address at once; at most {environment.max_connections}."
    used_up = (
        f"This is too large: an image may have {limit} bytes, and one upload may have at most half of what "
        "your images leave of their limit. `gridapps developer show` tells how much that is."
    )
    return [
        *_block(
            "location @certificate",
            "default_type application/json;",
            # A push begins with a HEAD, whose refusal has no body: sent to the realm, the tool gets this one.
            f"add_header WWW-Authenticate {_text(distribution.challenge(environment))} always;",
            f"return 401 {_answer(refusal(fault))};",
        ),
        *_block("location @refused", "default_type application/json;", "return 401 $refusal;"),
        *_block(
            "location @image_too_large",
            "default_type application/json;",
            "return 413 " + _answer(refusal(f"This is too large: an image may have {limit} bytes.")) + ";",
        ),
        *_block(
            "location @portion_used_up",
            "default_type application/json;",
            "return 413 " + _answer(refusal(used_up)) + ";",
        ),
        *_block(
            "location @registry_unavailable",
            "default_type application/json;",
            "add_header Retry-After 5 always;",
            f"return 503 {_answer(refusal(unavailable, code='UNAVAILABLE'))};",
        ),
        *_block(
            "location @too_large",
            "default_type application/json;",
            f"return 413 {_answer({'error': 'The body is larger than 2 MiB.', 'code': 'too-large'})};",
        ),
        *_block(
            "location @too_many_guesses",
            "default_type application/json;",
            "add_header Retry-After 60 always;",
            f"return 429 {_answer({'error': guesses, 'code': 'too-many-guesses'})};",
        ),
        *_block(
            "location @too_many_connections",
            "default_type application/json;",
            "add_header Retry-After 5 always;",
            f"return 429 {_answer({'error': connections, 'code': 'too-many-connections'})};",
        ),
        *_block(
            "location @registry_too_many_connections",
            "default_type application/json;",
            "add_header Retry-After 5 always;",
            f"return 429 {_answer(refusal(connections, code='TOOMANYREQUESTS'))};",
        ),
        *_block(
            "location @unavailable",
            "default_type application/json;",
            "add_header Retry-After 5 always;",
            f"return 503 {_answer({'error': unavailable, 'code': 'unavailable'})};",
        ),
    ]


def _headers(own: Mapping[str, str]) -> list[str]:
    """Headers towards a part: ours, and none of a client that says who it is or where it comes from."""
    headers = {
        "Host": "$http_host",
        "Connection": "",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "$remote_addr",
        "X-Forwarded-Host": "",
        "X-Forwarded-Port": "",
        "X-Real-IP": "",
        "Forwarded": "",
        "X-Client-Certificate": "",
        # What only the question to the application says of a request.
        "X-Original-Method": "",
        "X-Original-URI": "",
        "X-Original-Length": "",
        "X-Original-Transfer-Encoding": "",
        "X-Request-ID": "$request_id",
        **own,
    }
    return [f'proxy_set_header {name} "{value}";' for name, value in headers.items()]


def _block(head: str, *lines: str) -> list[str]:
    return [f"{head} {{", *(f"    {line}" for line in lines), "}"]


def _answer(body: Mapping[str, object]) -> str:
    return _text(json.dumps(body))


def _text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _quoted(path: Path | str) -> str:
    if any(character in str(path) for character in "\"\\$'\r\n;{}"):
        raise ValueError(
            f"GRIDAPPS_DATA or GRIDAPPS_STORAGE has a character that nginx cannot take in a path: {path}"
        )
    return f'"{path}"'
