"""The root process of a node: it runs the sandbox and serves the worker over a unix socket.

The worker, an account without privileges, decides what runs. It asks for containers by name, image digest and
limits, and cannot reach the security profile, the mounts or the engine's socket. Every message is checked as
if the worker were compromised. Plain Python: no Django, no database, no network.
"""
