"""Durable local state: what this node was asked to run."""
