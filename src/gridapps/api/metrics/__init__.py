"""`GET /metrics`: metrics of the instance for Prometheus."""
