"""Opens gRPC channels the same way everywhere: message limits, balancing, retries."""

import json

import grpc

MESSAGE_LIMIT = 64 * 2**20
MESSAGE_LIMITS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
]
# Only UNAVAILABLE is tried again: the call did not happen. Streams are not (gRFC A6).
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


def dial(address: str) -> grpc.aio.Channel:
    """Open a channel with our message limits, balanced over all addresses, retrying UNAVAILABLE."""
    options = [
        *MESSAGE_LIMITS,
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.initial_reconnect_backoff_ms", 200),
    ]
    return grpc.aio.insecure_channel(address, options=options)
