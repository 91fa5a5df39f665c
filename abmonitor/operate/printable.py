"""Text of unknown origin, made fit for a terminal. Pure."""


def printable(value: bytes | str, width: int | None = None) -> str:
    r"""`value` without anything that a terminal would act on, cut to `width` characters.

    Control characters, those that turn the direction of writing, and bytes that are no UTF-8 are shown
    as escapes. A backslash of the original is left as it is.

    >>> printable(b"a\x1b[2J\xff\n", 20)
    'a\\x1b[2J\\xff\\n'
    >>> printable("abcdef", 4)
    'abc…'
    """
    if width is not None:  # a character has up to 4 bytes; what is cut anyway need not be decoded
        value = value[: 4 * width + 4]
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    if width is None or len(shown) <= width:
        return shown
    return shown[: max(width - 1, 0)] + "…"
