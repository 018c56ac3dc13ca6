"""The service under load: a thousand clients, faults among them, and what every one of them was told."""
