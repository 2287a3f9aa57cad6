"""Django's settings, derived from `gridapps.config.environment.Environment`."""

import os
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.conf import global_settings

from gridapps.config.environment import Environment
from gridapps.pki import membership

GRIDAPPS = Environment()
DATA = GRIDAPPS.data.absolute()
STORAGE = GRIDAPPS.storage  # empty: DATA
MEMBERSHIP = membership.load(DATA)  # None on the instance's own machine


# Both sides give up an unreachable peer within seconds. Otherwise a node would wait forever, and the server
# would keep the locks of a node that was cut off during a claim.
_SILENCE = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "options": "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=11000 -c idle_in_transaction_session_timeout=60000",
}


def _secret_key() -> str:
    """The instance's key, made by `gridapps-server init`. Parts that sign nothing cannot read it."""
    try:
        return (DATA / "secret-key").read_text()
    except (FileNotFoundError, PermissionError):
        return os.urandom(32).hex()


def database(url: str) -> dict[str, Any]:
    """Django's configuration of a PostgreSQL URL, or of SQLite in the data directory for an empty one."""
    if not url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA / "database" / "gridapps.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 30,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
            },
        }
    parts = urlsplit(url)
    options: dict[str, str] = {**_SILENCE, **dict(parse_qsl(parts.query))}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }


# Further lines are older keys. What they signed or encrypted remains readable.
SECRET_KEY, *SECRET_KEY_FALLBACKS = _secret_key().split()
DEBUG = GRIDAPPS.debug
ALLOWED_HOSTS = [GRIDAPPS.host, "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = [GRIDAPPS.origin]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

INSTALLED_APPS = [
    "gridapps.web",  # first: its templates replace some of Django's administration
    "gridapps.web.apps.AdministrationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "oauth2_provider",
    "gridapps.audit",
    "gridapps.access",
    "gridapps.hooks",
    "gridapps.registry",
    "gridapps.exports",
    "gridapps.runs",
]
MIDDLEWARE = [
    "gridapps.web.requests.request_ids",
    "gridapps.web.head_requests.head_as_get",
    "gridapps.api.native.envelope.json_errors",
    "gridapps.web.policy.content_policy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "gridapps.config.urls"
CELERY_APPLICATION = "gridapps.config.celery.app"
ASGI_APPLICATION = "gridapps.config.asgi.application"
DATABASES = {"default": database(GRIDAPPS.database)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "access.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
# Django's hashers for passwords; the last one is for the secrets of OAuth clients, which are random.
PASSWORD_HASHERS = [*global_settings.PASSWORD_HASHERS, "gridapps.access.hashers.RandomSecretHasher"]
SESSION_ENGINE = "gridapps.access.sessions"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = DATA / "static"
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o2750  # of static files: nginx reads them by its group
# The largest body of the API is an argument object of 1 MiB inside a little JSON.
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024**2

OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
OAUTH2_PROVIDER = {
    "SCOPES_BACKEND_CLASS": "gridapps.access.scopes.OfApplication",
    "OAUTH2_VALIDATOR_CLASS": "gridapps.access.codes.Validator",
    "CLIENT_SECRET_HASHER": "pbkdf2_sha256_random",
    "PKCE_REQUIRED": True,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    # As RFC 9700 recommends: no implicit or password grant, S256 only, no tokens in URLs, hashed tokens.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["http", "https"],
    "ACCESS_TOKEN_EXPIRE_SECONDS": 12 * 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 86400,
    "CLEAR_EXPIRED_TOKENS_BATCH_INTERVAL": 0,  # no pause: they are removed in one transaction
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "gridapps.config.lines.Json"},
        "text": {"()": "gridapps.config.lines.Text"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": GRIDAPPS.log_format}},
    "loggers": {
        # One line for each request to the developer registry would hide everything else.
        "httpx": {"level": "WARNING"},
        "botocore": {"level": "WARNING"},
        # uvicorn's lines are formatted like all others.
        "uvicorn": {"handlers": [], "propagate": True},
        "uvicorn.error": {"handlers": [], "propagate": True},
        # Access lines contain queries. Django would enable the logger again despite --no-access-log.
        "uvicorn.access": {"handlers": [], "propagate": False},
        # Client errors are not logged: an anonymous client could write as many lines as it likes.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "CRITICAL"},
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
}

NINJA_PAGINATION_MAX_LIMIT = 1000
