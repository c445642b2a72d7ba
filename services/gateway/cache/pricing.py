"""What a language model's tokens cost."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.settings import SettingError

_TOKENS = 1_000_000


@dataclass(frozen=True)
class Prices:
    """Money for a million tokens: of the prompt, and of the completion."""

    prompt: float = 0.0
    completion: float = 0.0

    @classmethod
    def read(cls, text: str) -> "Prices":
        """Read two numbers, ``0.15,0.60``; an empty text says that nothing costs.

        Raises:
            SettingError: these are no two numbers of 0 or more.
        """
        if not text:
            return cls()
        try:
            prompt, completion = map(float, text.split(","))
        except ValueError:
            prompt = completion = math.nan
        if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
            raise SettingError(f"MEMETWIN_LLM_PRICES={text!r} is no two prices: 0.15,0.60")
        return cls(prompt, completion)

    def of(self, usage: Mapping[str, float]) -> float:
        """Return the money that so many tokens cost."""
        prompt, completion = (usage.get(f"{one}_tokens", 0) for one in ("prompt", "completion"))
        return (prompt * self.prompt + completion * self.completion) / _TOKENS
