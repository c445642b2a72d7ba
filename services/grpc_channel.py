"""Opens gRPC channels the same way everywhere: message limits, load balancing, retries."""

import json

import grpc

MESSAGE_LIMIT = 64 * 2**20
MESSAGE_LIMITS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
]
# gRPC retries a call that fails with UNAVAILABLE if the server has not sent response headers. This
# includes streams (gRFC A6). The server may have executed the failed attempt, so a call can run
# more than once.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}


# A ping without an answer closes the connection, so that calls to a machine that has disappeared
# end. By default gRPC sends no more than two pings while a call is silent; 0 lifts that limit.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
]


def dial(address: str) -> grpc.aio.Channel:
    """Open a channel that balances calls over all addresses and retries UNAVAILABLE."""
    options = [
        *MESSAGE_LIMITS,
        *KEEPALIVE,
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.initial_reconnect_backoff_ms", 200),
    ]
    return grpc.aio.insecure_channel(address, options=options)
