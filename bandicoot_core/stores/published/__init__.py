"""Schema `bandicoot` in PostgreSQL: its tables, roles and migrations, and one module for each thing that is kept there.

How a session is had belongs to postgres; what goes on a list is decided in policy.
"""
