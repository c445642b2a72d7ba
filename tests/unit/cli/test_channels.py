import pytest

from services.cli.channels import search_address

LOCAL, GATEWAY = "127.0.0.1:50052", "127.0.0.1:50050"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, LOCAL),
        ({"MEMETWIN_SEARCH_ADDRESS": "search:1"}, "search:1"),
        ({"MEMETWIN_API_KEY": "k"}, GATEWAY),
        ({"MEMETWIN_API_KEY": "k", "MEMETWIN_GATEWAY_ADDRESS": "gateway:1"}, "gateway:1"),
        ({"MEMETWIN_API_KEY": "k", "MEMETWIN_SEARCH_ADDRESS": "search:1"}, "search:1"),
        ({"MEMETWIN_API_KEY": "k", "MEMETWIN_SERVICE_TOKEN": "t"}, LOCAL),
        ({"MEMETWIN_API_KEY": "k", "MEMETWIN_SERVICE_TOKEN_FILE": "f"}, LOCAL),
        ({"MEMETWIN_GATEWAY_ADDRESS": "gateway:1"}, LOCAL),
    ],
)
def test_with_an_api_key_the_gateway_serves_search(environ: dict[str, str], expected: str) -> None:
    assert search_address(environ) == expected
