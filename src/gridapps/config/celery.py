"""The Celery application of a cluster. Its only task rings the workers of the node that it runs on.

Celery carries no work: runs are rows, and a message only wakes the workers of every node (a broadcast).
Messages are not stored, retried or answered, so losing one costs seconds. Celery's tools work as usual:
`celery -A gridapps.config.celery status`, `inspect ping`, flower.
"""

import os
import ssl
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from django.conf import settings
from kombu.common import Broadcast

from gridapps.config.environment import Environment
from gridapps.runs import worker_bell
from gridapps.runs.broker import CALL

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gridapps.config.settings")

OLDEST = 30  # seconds after which a message is useless, because every worker has polled
TIMEOUT = 4  # seconds for an answer of the broker


def _tls(environment: Environment) -> dict[str, Any] | None:
    """Options that verify the broker's certificate; None without TLS."""
    url = urlsplit(environment.broker)
    ca = environment.broker_ca or ssl.get_default_verify_paths().cafile
    match url.scheme:
        case "amqps":
            return {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": ca, "server_hostname": url.hostname}
        case "rediss":
            return {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": ca}
    return None


def _transport(environment: Environment) -> dict[str, Any]:
    if environment.broker.startswith("amqp"):
        return {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}
    return {"socket_connect_timeout": TIMEOUT, "socket_timeout": TIMEOUT, "socket_keepalive": True}


# Each listening process has a queue, which expires a minute after the process has ended.
_BELL = Broadcast("gridapps-bell", expires=60, message_ttl=OLDEST)

app = Celery("gridapps", set_as_current=False)
app.conf.update(
    broker_url=settings.GRIDAPPS.broker or "memory://",
    broker_use_ssl=_tls(settings.GRIDAPPS),
    broker_transport_options=_transport(settings.GRIDAPPS),
    broker_connection_timeout=TIMEOUT,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_heartbeat=10,
    task_queues=[_BELL],
    task_default_queue="gridapps-bell",
    task_routes={
        CALL: {"queue": _BELL, "declare": [_BELL.exchange], "delivery_mode": 1, "expiration": OLDEST}
    },
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
    task_ignore_result=True,
    task_acks_late=False,
    accept_content=["json"],
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
)


@app.task(name=CALL)
def ring() -> None:
    """Ring the workers of this node."""
    worker_bell.ring_here()
