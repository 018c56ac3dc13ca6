"""Redis, which answers for PostgreSQL where the same is asked again and again, and the readers that use both.

Everything in it can be rebuilt; nothing depends on it.
"""
