"""The container engine behind a small interface, with the security profile fixed. Plain Python: no Django.

`protocol` says what a sandbox does, `docker` does it with a real engine, `fake` in memory for fast tests;
one contract suite runs over both.
"""
