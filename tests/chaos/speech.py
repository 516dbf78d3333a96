import sys


def say(text: str) -> None:
    """Print it at once: whoever runs a tool of the chaos kit for half an hour watches it."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
