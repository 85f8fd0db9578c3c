"""From the user's files to immutable blobs named by their SHA-256."""
