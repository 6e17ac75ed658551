"""The version of a connection whose ServerHello was not captured: what its records alone imply.

Up to TLS 1.2 every record carries the negotiated version, and alerts and handshake messages keep their own content type
when they are encrypted; TLS 1.3 writes 0x0303 everywhere and hides all of it in application data records (RFC 8446
5.1, 5.2). So these are inferences, each exact as long as both ends keep to the RFCs:

- a ChangeCipherSpec directly before an application data record: TLS 1.3 (RFC 8446 D.4). Before it, Finished follows,
  a handshake record (RFC 5246 7.1);
- records of version 0x0300 to 0x0302: that version (drafts of TLS 1.3 up to 2017 wrote 0x0301 as well);
- encrypted alerts or handshake messages of version 0x0303 behind the handshake: TLS 1.2;
- records whose first eight octets count up by one: TLS 1.2 with the explicit nonce of AES-GCM or AES-CCM
  (RFC 5288 3, RFC 6655 3). In TLS 1.3 they are ciphertext, and do so once in 2**64;
- a side's last record before it closes is application data of 19 octets: TLS 1.3. That is the length of its encrypted
  closing alert; TLS 1.2 would show the alert, and could send a 19-octet record only as three octets of application
  data under ChaCha20-Poly1305 or MD5.

A connection that shows none of these stays open: ChaCha20-Poly1305 of TLS 1.2 and TLS 1.3 differ in no other way.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from analyzer.decode.gather import gather_numbers
from analyzer.protocols.tls.records import ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, RecordWalk, WalkEnd
from analyzer.registries import HeadStop, TlsVersion
from analyzer.schema import I64, U8, Mask, StreamHeads

_NONCE: Final = 8
_CLOSING: Final = 19
"""Octets of an encrypted alert of TLS 1.3: two of alert, one of content type, sixteen of tag."""
_CLEAR_ALERT: Final = 2
_FIN_OR_RST: Final = 0b101


def unmarked_data(walk: RecordWalk) -> Mask:
    """Streams with application data directly behind a ChangeCipherSpec: (S,) bool."""
    records = walk.records
    found = np.zeros(walk.end.shape[0], bool)
    change = np.flatnonzero(records.kind[:-1] == CHANGE_CIPHER_SPEC)
    following = change + 1
    behind = (records.kind[following] == APPLICATION_DATA) & (records.row[following] == records.row[change])
    behind &= ~records.gap[following]
    found[records.row[change[behind]]] = True
    return found


def versions_by_records(heads: StreamHeads, streams: I64, walk: RecordWalk, closed: U8) -> I64:
    """Version of each flow by its records: (T,) int64 `TlsVersion`, 0 where they do not tell.

    Parameters
    ----------
    heads : StreamHeads
    streams : (2 T,) int64
        Streams that were walked: the clients', then the servers'.
    walk : RecordWalk
        Their records.
    closed : (T, 2) uint8
        TCP flags each side ever set, or-ed.
    """
    count = closed.shape[0]
    newer = unmarked_data(walk) | _closes_hidden(heads, streams, walk, closed)
    older = _counts_up(heads, walk) | _shows_type(walk)
    field, same = _version_field(walk)
    of_field = same & (field > 0)
    newer, older = newer[:count] | newer[count:], older[:count] | older[count:]
    legacy = of_field & (field < TlsVersion.TLS_1_2)
    is_12 = of_field & (field == TlsVersion.TLS_1_2) & older & ~newer
    is_13 = of_field & (field == TlsVersion.TLS_1_2) & newer & ~older
    version = np.select([legacy, is_12, is_13], [field, TlsVersion.TLS_1_2, TlsVersion.TLS_1_3], 0)
    return version.astype(np.int64)


def _version_field(walk: RecordWalk) -> tuple[I64, Mask]:
    """The version that the application data records of each flow carry, and whether all carry the same one."""
    records, count = walk.records, walk.end.shape[0] // 2
    data = np.flatnonzero(records.kind == APPLICATION_DATA)
    flow = records.row[data] % max(count, 1)
    value = records.version[data].astype(np.int64)
    highest, lowest = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(highest, flow, value)
    np.minimum.at(lowest, flow, value)
    return highest, highest == lowest


def _counts_up(heads: StreamHeads, walk: RecordWalk) -> Mask:
    """Streams in which the first eight octets of one record are those of the record before, plus one."""
    records = walk.records
    found = np.zeros(walk.end.shape[0], bool)
    usable = (records.kind == APPLICATION_DATA) & (records.known >= records.start + _NONCE)
    first = np.flatnonzero(usable[:-1] & usable[1:])
    second = first + 1
    paired = (records.row[first] == records.row[second]) & ~records.gap[second]
    first, second = first[paired], second[paired]
    both = [gather_numbers(heads.octets, records.start[rows]).byteswap() for rows in (first, second)]
    found[records.row[first[both[0] + np.uint64(1) == both[1]]]] = True
    return found


def _shows_type(walk: RecordWalk) -> Mask:
    """Streams with an encrypted alert or handshake record behind application data."""
    records = walk.records
    found = np.zeros(walk.end.shape[0], bool)
    seen = np.cumsum(records.kind == APPLICATION_DATA)
    begin = walk.begin[records.row]
    before = np.where(begin > 0, seen[np.maximum(begin - 1, 0)], 0)
    alert = (records.kind == ALERT) & (records.stop - records.start > _CLEAR_ALERT)
    behind = (alert | (records.kind == HANDSHAKE)) & (seen > before)
    found[records.row[behind]] = True
    return found


def _closes_hidden(heads: StreamHeads, streams: I64, walk: RecordWalk, closed: U8) -> Mask:
    """Streams whose very last record is application data of the size of an alert, and whose side closed."""
    records = walk.records
    found = np.zeros(walk.end.shape[0], bool)
    over = (closed.T.reshape(-1) & _FIN_OR_RST) > 0
    whole = (heads.stop[streams] == HeadStop.COMPLETE) & (walk.end == WalkEnd.END) & (walk.begin[1:] > walk.begin[:-1])
    rows = np.flatnonzero(over & whole)
    last = walk.begin[rows + 1] - 1
    sized = (records.kind[last] == APPLICATION_DATA) & (records.stop[last] - records.start[last] == _CLOSING)
    at_end = (records.stop[last] == heads.offsets[streams[rows] + 1]) & (records.known[last] == records.stop[last])
    found[rows[sized & at_end & (last > walk.begin[rows])]] = True
    return found
