"""A judge of meanings for tests of grounding."""

from collections.abc import Sequence


class FakeSupport:
    """Supports the statements in ``meant``; records what it was asked."""

    def __init__(self, *meant: str) -> None:
        self.meant = meant
        self.asked: list[tuple[str, list[str], list[str]]] = []

    async def supports(self, statement: str, cited: Sequence[str], others: Sequence[str]) -> bool:
        self.asked.append((statement, list(cited), list(others)))
        return statement in self.meant
