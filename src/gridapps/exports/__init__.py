"""Exports: what users cut out of products, and the point-cloud files they consist of."""
