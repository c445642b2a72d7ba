"""Decodes the token ids that some clients send instead of texts.

LangChain's ``OpenAIEmbeddings`` encodes texts with tiktoken, which has the encodings of OpenAI's
models (https://github.com/openai/tiktoken).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from services.errors import InvalidArgument, Unavailable
from services.gateway.backends.embedder import EmbedderClient
from services.settings import SettingError

if TYPE_CHECKING:  # it takes memory that most gateways do not need
    from tiktoken import Encoding

log = logging.getLogger(__name__)
LOAD_TIMEOUT = 20.0
# The name of the encoding that each model's own tokenizer is.
OF_MODEL = "model"
_MAX_ID = 2**32
Load = Callable[[str], "Encoding"]


class TokenDecoder:
    """Decodes token ids with one encoding.

    Args:
        embedder: decodes those of its models.
        name: name of the encoding, or ``model`` for that of the model that embeds the texts. An
            empty one decodes nothing, because the ids do not say what they are.
        load: returns an encoding by its name.
    """

    def __init__(self, embedder: EmbedderClient, name: str, load: Load | None = None) -> None:
        self._embedder, self._name, self._load = embedder, name, load or _load
        self._loading: asyncio.Task[Encoding] | None = None

    @classmethod
    def of_setting(cls, embedder: EmbedderClient, name: str) -> "TokenDecoder":
        """Return the decoder for the setting MEMETWIN_EMBEDDING_TOKENS.

        Raises:
            SettingError: tiktoken does not know the encoding.
        """
        if name not in ("", OF_MODEL):
            import tiktoken  # noqa: PLC0415

            known = tiktoken.list_encoding_names()
            if name not in known:
                raise SettingError(
                    f"MEMETWIN_EMBEDDING_TOKENS is {name!r}, which is not an encoding of tiktoken."
                    f" It has {', '.join(sorted(known))}. {OF_MODEL} stands for that of the model."
                )
        return cls(embedder, name)

    async def decode(self, inputs: Sequence[Sequence[int]], model: str) -> list[str]:
        """Return the texts of token ids, which a model is to embed.

        Raises:
            InvalidArgument: no encoding is configured, or it lacks a token.
            Unavailable: the encoding cannot be loaded.
        """
        if not self._name:
            raise InvalidArgument(
                "TOKENS_NOT_ACCEPTED",
                "input has token ids, which do not say what encoding they are from. Send texts; in"
                " LangChain, set check_embedding_ctx_length=False. Or set"
                " MEMETWIN_EMBEDDING_TOKENS of the gateway to the encoding, such as cl100k_base.",
                field="input",
            )
        if self._name == OF_MODEL:
            return await self._decode_with_model(inputs, model)
        encoding = await self._encoding()
        return await asyncio.to_thread(
            lambda: [self._text(encoding, tokens, index) for index, tokens in enumerate(inputs)]
        )

    async def _decode_with_model(self, inputs: Sequence[Sequence[int]], model: str) -> list[str]:
        for index, tokens in enumerate(inputs):
            if max(tokens) >= _MAX_ID:
                raise self._unknown_token(index)
        return await self._embedder.detokenize(inputs, model)

    async def _encoding(self) -> "Encoding":
        if self._loading is None or (self._loading.done() and self._loading.exception()):
            self._loading = asyncio.create_task(asyncio.to_thread(self._load, self._name))
        try:
            # tiktoken downloads a file, and has no time limit.
            return await asyncio.wait_for(asyncio.shield(self._loading), LOAD_TIMEOUT)
        except Exception as error:
            log.warning("cannot load an encoding", exc_info=True)
            raise Unavailable(
                "ENCODING_UNAVAILABLE",
                f"The gateway cannot load the encoding {self._name}, which tiktoken downloads when"
                " it is first used. Send texts, or set TIKTOKEN_CACHE_DIR of the gateway to a"
                " folder that contains the file.",
                retry_after=60.0,
            ) from error

    def _text(self, encoding: "Encoding", tokens: Sequence[int], index: int) -> str:
        try:
            return encoding.decode(tokens)
        except (KeyError, OverflowError) as error:
            raise self._unknown_token(index) from error

    def _unknown_token(self, index: int) -> InvalidArgument:
        return InvalidArgument(
            "UNKNOWN_TOKEN",
            f"Input {index} has a token id that the encoding {self._name} does not have. Send"
            " texts, or tokens of this encoding.",
            field="input",
            input=index,
        )


def _load(name: str) -> "Encoding":
    import tiktoken  # noqa: PLC0415

    return tiktoken.get_encoding(name)
