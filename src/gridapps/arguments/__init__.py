"""Argument schemas of Apps, and arguments checked against them, in processes with limits.

Plain Python: no Django. Schemas and arguments are untrusted.
"""
