"""From events to states, histories and counts: table expressions that any engine executes.

Every function takes tables and returns a table, without touching an engine, a file or a clock. Estimates and
decisions made from these tables belong to model and policy.
"""
