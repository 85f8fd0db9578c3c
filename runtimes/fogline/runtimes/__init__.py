"""Runs inside the stage process; knows nothing of agent, coordinator or gRPC."""
