"""Text from elsewhere, made harmless for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text with an escape in the place of everything that is not seen as it is.

    Parameters
    ----------
    text : str
        Text that nobody vouches for, such as a name in a file.

    Returns
    -------
    str
        The same letters; control codes, line ends, marks of direction and halves of
        characters are spelled out, so that no terminal obeys them.

    Examples
    --------
    >>> from skcausalmeta.utils import printable
    >>> print(printable("caf\\u00e9 \\x1b[2J"))
    café \\x1b[2J
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
