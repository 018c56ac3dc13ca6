"""The servers of deploy/compose.yaml, started here without containers."""
