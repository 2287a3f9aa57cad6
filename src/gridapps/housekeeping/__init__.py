"""Removes what policies no longer keep: images, outputs, expired sessions, leftovers of imports."""
