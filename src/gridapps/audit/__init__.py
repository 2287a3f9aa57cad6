"""The audit: who did what, and who was refused, in one table to which is only ever added."""
