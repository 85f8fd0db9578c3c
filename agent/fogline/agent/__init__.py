"""The agent: lives on a node, pulls its assignments and keeps them running."""
