"""Plain MCP servers that anybody could have written; each runs alone."""
