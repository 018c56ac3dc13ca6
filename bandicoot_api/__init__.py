"""The service on request: recommendations, caregivers, outcomes and training over HTTP.

Thin: what is answered is decided in bandicoot_core. Here are addresses, guards, and what to do when a server is away.
"""
