"""How an assignment becomes something that runs."""
