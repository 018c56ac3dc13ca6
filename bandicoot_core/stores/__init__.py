"""Where data lives: the programme's source, the lake, the published schema, and the embedded server."""
