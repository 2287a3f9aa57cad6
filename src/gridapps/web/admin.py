"""What Django's administration looks for: it registers the classes."""

from gridapps.web.administration import entries, exports, registry, runs, users

__all__ = ["entries", "exports", "registry", "runs", "users"]
