"""Formats of container images as pure functions of bytes: manifests, configurations, layers, attachments.

Plain Python: no Django. Treat all input as written by an attacker.
"""
