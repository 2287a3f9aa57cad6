"""The ASGI application that uvicorn serves."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gridapps.config.settings")
_django = get_asgi_application()

from gridapps.api.native.request_thread import with_request_threads  # noqa: E402 - needs the settings
from gridapps.config.alive import with_answer  # noqa: E402

application = with_answer(with_request_threads(_django))
