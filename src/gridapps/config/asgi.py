"""The ASGI application that uvicorn serves."""

import os
import resource

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gridapps.config.settings")
# Each client that waits has a connection. Services start with a soft limit of 1,024 files on most systems.
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
_files = min(_hard, 16384) if _hard != resource.RLIM_INFINITY else 16384
resource.setrlimit(resource.RLIMIT_NOFILE, (_files, _hard))
application = get_asgi_application()
