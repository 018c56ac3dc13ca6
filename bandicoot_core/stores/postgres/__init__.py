"""Talking to PostgreSQL, whichever tables are there: sessions, pools, bulk copies of Arrow tables, errors in words.

Nothing here knows a table; those of schema `bandicoot` are in published, the programme's in source.
"""
