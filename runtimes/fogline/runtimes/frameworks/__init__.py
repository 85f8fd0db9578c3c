"""What a stage computes with: one file per framework."""
