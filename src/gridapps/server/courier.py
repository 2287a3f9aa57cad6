"""A courier of hooks, as the settings say."""

import ssl
from datetime import timedelta

from gridapps.config.environment import Environment
from gridapps.hooks.courier import Courier
from gridapps.hooks.posting import Poster
from gridapps.server.instance import Unusable


def courier_of(settings: Environment) -> Courier:
    """A courier that does not run yet. Raises Unusable when the CA file cannot be read."""
    try:
        poster = Poster(rules=settings.hook_rules(), timeout=settings.hook_timeout, ca=settings.hook_ca)
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"GRIDAPPS_HOOK_CA cannot be read: {error}") from None
    return Courier(poster=poster, lease=timedelta(seconds=settings.lease), pause=settings.hook_pause)
