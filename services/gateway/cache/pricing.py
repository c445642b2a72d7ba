"""The prices of a language model's tokens."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.settings import SettingError

_TOKENS = 1_000_000


@dataclass(frozen=True)
class Prices:
    """Prices per million prompt tokens and per million completion tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Prices":
        """Read two prices such as ``0.15,0.60``; an empty text means that tokens are free.

        Raises:
            SettingError: the text is not two numbers of 0 or more.
        """
        if not text:
            return cls()
        try:
            prompt, completion = map(float, text.split(","))
        except ValueError:
            prompt = completion = math.nan
        if not (0 <= prompt < math.inf and 0 <= completion < math.inf):
            raise SettingError(
                f"MEMETWIN_LLM_PRICES={text!r} is not two prices. Set the prices per million prompt"
                " and completion tokens, such as 0.15,0.60."
            )
        return cls(prompt, completion)

    def cost(self, usage: Mapping[str, float]) -> float:
        """Return the cost of ``prompt_tokens`` and ``completion_tokens`` of ``usage``."""
        prompt, completion = (usage.get(f"{kind}_tokens", 0) for kind in ("prompt", "completion"))
        return (prompt * self.prompt + completion * self.completion) / _TOKENS
