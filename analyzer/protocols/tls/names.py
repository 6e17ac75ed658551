"""Distinguished names as text (RFC 4514), read from DER: for CertificateRequest, which lists bare names."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from analyzer.protocols.tls.strings import printable

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_OBJECT_IDENTIFIER: Final = 0x06
_LONG_FORM: Final = 0x80
_CODECS: Final = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x0C: "utf-8"}
"""Tags of BMPString, UniversalString, UTF8String; all others are read as Latin-1 (X.690 8.23)."""
_ATTRIBUTES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
"""RFC 4514 section 3."""
_SPECIAL: Final = '",+;<>\\'


def _items(octets: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each DER element (X.690 8.1).

    Raises
    ------
    ValueError
        If a length does not fit.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(octets):
        if at + 2 > len(octets):
            raise ValueError("an element ends inside its header")
        tag, length = octets[at], octets[at + 1]
        at += 2
        if length >= _LONG_FORM:
            width = length - _LONG_FORM
            length = int.from_bytes(octets[at : at + width])
            at += width
        if at + length > len(octets):
            raise ValueError("an element is longer than what holds it")
        found.append((tag, octets[at : at + length]))
        at += length
    return found


def _identifier(octets: bytes) -> str:
    """Dotted form of an object identifier (X.690 8.19)."""
    arcs, value = [], 0
    for octet in octets:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    if not arcs:
        raise ValueError("an empty object identifier")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))


def _escaped(text: str) -> str:
    escaped = "".join("\\" + c if c in _SPECIAL else c for c in text)
    return printable(escaped) if not escaped.isprintable() else escaped


def _attribute(octets: bytes) -> str:
    items = _items(octets)
    if len(items) != 2 or items[0][0] != _OBJECT_IDENTIFIER:
        raise ValueError("not an attribute type and value")
    kind = _identifier(items[0][1])
    tag, value = items[1]
    return f"{_ATTRIBUTES.get(kind, kind)}={_escaped(value.decode(_CODECS.get(tag, 'latin-1'), 'replace'))}"


def distinguished_name(der: bytes) -> str | None:
    """RFC 4514 text of one DER Name, most specific part first; None where it is malformed."""
    try:
        outer = _items(der)
        if len(outer) != 1 or outer[0][0] != _SEQUENCE:
            return None
        parts: list[str] = []
        for tag, content in _items(outer[0][1]):
            if tag != _SET:
                return None
            parts.append("+".join(_attribute(value) for _, value in _items(content)))
    except ValueError:
        return None
    return ",".join(reversed(parts))


@lru_cache(maxsize=64)
def requested_names(body: bytes, *, with_algorithms: bool) -> tuple[str, ...]:
    """Names of the CAs that a CertificateRequest of TLS <= 1.2 lists.

    Parameters
    ----------
    body : bytes
        The message without its header.
    with_algorithms : bool
        TLS 1.2 lists signature algorithms before the names (RFC 5246 7.4.4); before, there was no such list.

    Returns
    -------
    tuple of str
        Up to the first name that does not fit; a malformed name is left out.
    """
    at = 1 + (body[0] if body else 0)
    if with_algorithms:
        at += 2 + int.from_bytes(body[at : at + 2])
    return listed_names(body, at)


def listed_names(body: bytes, at: int) -> tuple[str, ...]:
    """Names in the list that begins at `at`: of a CertificateRequest, or certificate_authorities (RFC 8446 4.2.4)."""
    stop = min(len(body), at + 2 + int.from_bytes(body[at : at + 2]))
    at += 2
    names: list[str] = []
    while at + 2 <= stop:
        length = int.from_bytes(body[at : at + 2])
        if at + 2 + length > stop:
            break
        name = distinguished_name(body[at + 2 : at + 2 + length])
        if name is not None:
            names.append(name)
        at += 2 + length
    return tuple(names)
