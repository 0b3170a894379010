"""The one error of declarations, contracts among them. In a module of its own, because what only reads tables must not import Pandera."""


class DeclarationError(TypeError):
    """A declaration that cannot be meant. It names the declaration, the parameter and the remedy."""
