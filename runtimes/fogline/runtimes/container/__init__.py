"""What a segment's image is made of: the submitter writes it down, agents build it. Standard library only."""
