"""A clean caller for each test."""

from collections.abc import Iterator

import pytest

from services.gateway.auth import caller


@pytest.fixture(autouse=True)
def no_caller() -> Iterator[None]:
    """Start without a caller, whoever an earlier test has authenticated."""
    one, charge = caller._caller.set(None), caller._charge.set(None)
    yield
    caller._caller.reset(one)
    caller._charge.reset(charge)
