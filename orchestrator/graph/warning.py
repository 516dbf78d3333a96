"""What compiles, and probably does not do what was meant."""


class CompileWarning(UserWarning):
    """A doubt about a graph.

    Args:
        category: the rule concerned, as listed in the glossary.
        message: what may happen and what to do.
        node: the node concerned.
    """

    def __init__(self, category: str, message: str, *, node: str) -> None:
        self.category = category
        self.node = node
        super().__init__(message)
