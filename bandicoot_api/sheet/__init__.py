"""The call sheet: the day's list as a page for a health worker's phone, where outcomes are marked."""
