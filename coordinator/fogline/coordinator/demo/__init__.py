"""`coord demo`: the whole path on this machine's own telemetry."""
