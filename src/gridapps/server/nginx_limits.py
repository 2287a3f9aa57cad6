"""What one address may have of nginx: connections at once, and attempts at passwords and tokens."""

import resource

from gridapps.config.environment import Environment

# Each worker has so many, two for each request that goes on to another part. One address reaches its own
# limit long before them.
WORKER_CONNECTIONS = 8192
_FILES = 2 * WORKER_CONNECTIONS + 1024

# Attempts at a password or a secret from one address: so many a minute, and so many at once before that.
GUESSES, GUESSES_AT_ONCE = 30, 20
GUESSED = r"^/(login|admin/login/|api/(token|revoke_token))$"
# What a scraper asks for, and what tries its token.
METRICS, METRICS_AT_ONCE = 60, 20


def of_processes() -> list[str]:
    """Directives of the main context."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    return [f"worker_rlimit_nofile {files};"]


def of_clients(environment: Environment) -> list[str]:
    """Directives of the http context."""
    return [
        # A client of IPv6 has a whole network of addresses: its first 64 bits count.
        "map $binary_remote_addr $address {"
        ' "~(?s)^(?<network>.{8}).{8}$" $network; default $binary_remote_addr; }',
        "limit_conn_zone $address zone=addresses:8m;",
        f"limit_conn addresses {environment.max_connections};",
        "limit_conn_status 429;",
        # Looking at the form is no attempt: what has an empty key is not counted.
        'map $request_method $guessing { POST $address; default ""; }',
        f"limit_req_zone $guessing zone=guesses:4m rate={GUESSES}r/m;",
        f"limit_req_zone $address zone=metrics:1m rate={METRICS}r/m;",
        "limit_req_status 429;",
        # A refusal writes no log line: clients decide how often they are refused.
        "limit_conn_log_level info;",
        "limit_req_log_level info;",
        # Who sends slowly does not hold a connection for long.
        "client_header_timeout 10s;",
        "client_body_timeout 20s;",
        "send_timeout 30s;",
        "keepalive_timeout 30s;",
        "reset_timedout_connection on;",
        "large_client_header_buffers 4 8k;",
    ]
