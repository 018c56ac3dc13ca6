"""Bandicoot as a Dagster project: assets, checks, jobs, schedules, and the command line that runs them.

Orchestration only. What an asset computes is in bandicoot_core.
"""
