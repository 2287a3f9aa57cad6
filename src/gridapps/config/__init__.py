"""Settings, URLs and the ASGI application of an instance. Only `server` and Django look in here."""
