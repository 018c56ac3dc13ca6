"""What this machine reaches: measurements of time and memory, each in a process of its own. Not installed."""
