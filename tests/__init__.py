"""The tests. Servers are started from a process in which gRPC has threads; its own handling of that may crash it."""

import os

# Read when gRPC is first imported. Whoever starts a process here replaces it by another program at once.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
