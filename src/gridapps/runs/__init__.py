"""Runs of Apps on exports: submission, the queue, states, outputs and logs."""
