"""Copies shared releases into the trusted registry, after scanning them."""
