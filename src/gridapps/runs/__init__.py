"""Runs of Apps over exports: submission, the queue, the worker, outputs and logs."""
