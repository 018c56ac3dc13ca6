"""Whom to call: who is eligible, in which order, within which budget, and why.

Turns states, clusters and indices into the ranked list of a day. How the indices come about belongs to model; where
the list is published, to stores.
"""
