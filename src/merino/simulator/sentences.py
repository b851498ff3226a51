"""Text of a wanted number of words that ends with a whole sentence, however many those are."""

from __future__ import annotations

_FILLING = (
    "Its words are made up from a fixed list, so that tests and demos can run anywhere.",
    "The number of tokens, the time they take and every failure can be chosen by name.",
    "Nothing here was thought, looked up or learned; only the bytes are like the real ones.",
)
_CLOSING = (
    "Done.",
    "That's all.",
    "That is all.",
    "Here the answer ends.",
    "This is the last sentence.",
    "This sentence is the last one.",
    "With this sentence the answer is complete.",
    "With this short sentence the answer is complete.",
    "With this short sentence the whole answer is complete.",
    "With this one short sentence the whole answer is complete.",
    "With this one short sentence the whole made-up answer is complete.",
    "With this one short sentence the whole made-up answer is now complete.",
    "And with this one short sentence the whole made-up answer is now complete.",
    "And with this one short sentence the whole of the made-up answer is complete.",
    "And with this one short sentence the whole of the made-up answer is now complete.",
    "And so with this one short sentence the whole of the made-up answer is now complete.",
)
"""By the number of their words, from one on."""
_SHORT = (
    "Simulated.",
    "Simulated answer.",
    "A simulated answer.",
    "This answer is simulated.",
    "This is a simulated answer.",
    "This is just a simulated answer.",
    "This is a simulated answer, nothing more.",
    "This is a simulated answer and nothing more.",
    "This is a simulated answer; no model was asked.",
    "This is a simulated answer; no real model was asked.",
    "This is only a simulated answer; no real model was asked.",
)
"""The same, for answers that are too short to say which model it is."""


def _pieces(text: str) -> tuple[str, ...]:
    return tuple(f" {word}" for word in text.split())


_FILLED = _pieces(" ".join(_FILLING))


def _ending(count: int) -> tuple[str, ...]:
    """So many words in whole sentences, if they are fewer than those that fill."""
    pieces: tuple[str, ...] = ()
    for sentence in map(_pieces, _FILLING):
        if count - len(pieces) < len(sentence):
            break
        pieces += sentence
    left = count - len(pieces)
    return pieces + (_pieces(_CLOSING[left - 1]) if left else ())


_ENDINGS = tuple(_ending(count) for count in range(len(_FILLED)))


def said_in(count: int, *openings: str) -> list[str]:
    """`count` words, each a piece with the blank before it: the first of the `openings` that finds
    room, and sentences after it."""
    for opening in openings:
        words = opening.split(" ")
        if len(words) <= count:
            return [words[0], *(f" {word}" for word in words[1:]), *_sentences(count - len(words))]
    if 0 < count <= len(_SHORT):
        return said_in(count, _SHORT[count - 1])
    pieces = _sentences(count)
    return [each.lstrip() if not at else each for at, each in enumerate(pieces)]


def _sentences(count: int) -> list[str]:
    rounds, rest = divmod(count, len(_FILLED))
    return [*_FILLED * rounds, *_ENDINGS[rest]]
