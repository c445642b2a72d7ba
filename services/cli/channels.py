"""Where commands find the services."""

import os
from collections.abc import Callable
from typing import Any

import click
import grpc

LIMIT = 64 * 2**20


def channel(address: str) -> grpc.Channel:
    """Open a channel that takes messages as large as the services send."""
    options = [("grpc.max_receive_message_length", LIMIT), ("grpc.max_send_message_length", LIMIT)]
    return grpc.insecure_channel(address, options=options)


def search_option() -> Callable[[Any], Any]:
    """Return the option that names the search service."""
    return click.option(
        "--search",
        default=lambda: os.environ.get("MEMETWIN_SEARCH_ADDRESS") or "127.0.0.1:50052",
        show_default="MEMETWIN_SEARCH_ADDRESS, else 127.0.0.1:50052",
        help="Address of the search service.",
    )
