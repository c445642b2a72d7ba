"""A small encoding of tiktoken, which needs no download."""

import tiktoken


def small_encoding(name: str) -> tiktoken.Encoding:
    """Return an encoding with a token for each byte, and one for a word."""
    ranks = {bytes([number]): number for number in range(256)} | {b"bird": 256}
    return tiktoken.Encoding(
        name, pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens={"<|end|>": 300}
    )
