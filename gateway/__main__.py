"""`python -m gateway`: the gateway alone, with the options of `pointsman gateway`."""

from __future__ import annotations

import gc
import sys

import typer

from gateway.cli import gateway
from gateway.errors import GatewayError


def main() -> None:
    """Run the gateway; print what goes wrong in one line."""
    gc.set_threshold(20_000, 20, 50)  # loading modules makes much and throws nothing away
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    app.command()(gateway)
    try:
        app()
    except GatewayError as error:
        print(f"pointsman: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
