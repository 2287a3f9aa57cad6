"""Pushes to the developer registry: permissions, disk quota, judging and storing what arrives."""
