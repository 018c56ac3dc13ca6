"""The migrations of schema `bandicoot`, run by Alembic from within the package: no configuration file is needed.

A migration is frozen once it is released: a later change of a table is a new file in `versions`. Code that reads or
writes the tables belongs to the stores.
"""

HEAD_REVISION = "0007"
"""The newest revision, known without loading Alembic; a test holds it to the files in `versions`."""
