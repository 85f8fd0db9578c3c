"""Pure decisions of the coordinator: split, place, reconcile."""
