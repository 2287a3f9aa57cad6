"""`GET /metrics`: how the instance stands, for Prometheus."""
