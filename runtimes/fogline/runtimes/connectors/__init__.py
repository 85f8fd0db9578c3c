"""How records enter and leave a segment: one file per transport."""
