"""All tool servers in one process: `python -m tool_servers --recording DIR --state DIR`."""

from tool_servers.cli import serve_all

if __name__ == "__main__":
    serve_all()
