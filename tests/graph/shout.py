"""A function that people map over items."""


def shout(word: str) -> str:
    """Give the word in capitals."""
    return word.upper()
