"""Terraform without an account or a network: the real program beside a provider that knows only the schema."""
