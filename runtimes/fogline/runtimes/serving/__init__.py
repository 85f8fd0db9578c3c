"""The segment's second door: HTTP requests instead of queues."""
