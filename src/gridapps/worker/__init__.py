"""The worker of a node: claims tasks, runs each attempt in the sandbox, and collects its outputs.

The API never imports it.
"""
