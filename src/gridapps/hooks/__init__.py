"""Hooks: events of the instance, POSTed to URLs of users. Nothing here depends on runs."""
