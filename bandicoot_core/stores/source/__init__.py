"""The programme's own PostgreSQL, read-only: which columns are read, how, and whether they are there and recent."""
