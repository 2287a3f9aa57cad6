"""Formats of container images, as pure functions of bytes: manifests, configurations, layers, attachments.

Plain Python: no Django. Everything here reads what an attacker may have written.
"""
