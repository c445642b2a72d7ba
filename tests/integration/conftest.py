"""Fixtures for tests of decisions, which a busy machine must not change."""

from collections.abc import Iterator

import pytest

from services.gateway.cache.verifier import pair_verifier


@pytest.fixture(scope="session", autouse=True)
def patient_verifier() -> Iterator[None]:
    """Let lookups wait for the cross-encoder, however slow this machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_verifier, "TIMEOUT", 30.0)
        yield
