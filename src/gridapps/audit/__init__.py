"""The audit: who did what, and who was refused, in one append-only table."""
