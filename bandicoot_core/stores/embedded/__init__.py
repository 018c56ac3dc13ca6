"""A real PostgreSQL from a wheel for installations without a server: where it lives, how it starts and stops."""
