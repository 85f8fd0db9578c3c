"""What the agent knows of its machine: facts, artifacts, workspaces."""
