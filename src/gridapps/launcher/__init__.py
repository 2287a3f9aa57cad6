"""The one process of a node that is root: it holds the sandbox, and serves the worker over a unix socket.

The worker decides what runs, as an account without privileges. It asks here for containers by name, image
digest and limits; the security profile, the mounts and the engine's socket are out of its reach. Every
message is checked as if the worker were compromised. Plain Python: no Django, no database, no network.
"""
