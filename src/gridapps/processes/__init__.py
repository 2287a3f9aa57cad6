"""Processes of one machine: their privileges, how they wake each other, and leftovers of killed parents."""
