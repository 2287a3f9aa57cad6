"""The commands of `gridapps-server`. `cli` imports a module of these only when one of its commands is called.

Models can be imported only once Django is set up, so commands import what needs them after `prepare`.
"""
