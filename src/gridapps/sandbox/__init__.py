"""The container engine behind a small interface, with the security profile fixed. Plain Python: no Django.

`protocol` defines a sandbox. `docker` implements it with a real engine (`starting`, `ends`, `stopping` and
`outcome` are the steps of a container's life, `engine` speaks the engine's API); `fake` works in memory, for
fast tests. One contract suite runs over both.
"""
