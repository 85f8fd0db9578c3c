"""Everything on this machine, without daemons: children tied to one command, and a broker if need be."""
