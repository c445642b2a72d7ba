"""The text that represents a prompt after the messages before it."""

from collections.abc import Sequence

# The last user messages before a prompt are embedded with it. Only their last characters count,
# because a model with a short input must still see the prompt.
CONTEXT_MESSAGES, CONTEXT_CHARACTERS = 2, 400


def text_in_context(prompt: str, history: Sequence[tuple[str, str]]) -> str:
    """Return a prompt after the user's last messages.

    A prompt such as "And in Paris?" means nothing without them.

    Args:
        prompt: the prompt.
        history: the earlier messages as pairs of role and content.
    """
    messages = [text for role, text in history if role.startswith("user")]
    before = "\n".join(messages[-CONTEXT_MESSAGES:])[-CONTEXT_CHARACTERS:]
    return f"{before}\n{prompt}" if before else prompt
