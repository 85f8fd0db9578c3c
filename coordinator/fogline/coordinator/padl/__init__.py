"""PADL: reading, checking and describing the documents users write."""
