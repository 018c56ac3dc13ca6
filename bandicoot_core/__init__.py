"""The science and the stores of Bandicoot: states, bandit mathematics, call lists, and where they are kept.

Nothing in this package imports Dagster; it can be read, tested and used alone.
"""
