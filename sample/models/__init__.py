"""The networks behind one interface that samples windows of a grid; loading them by name or file."""
