"""What a live session shows at one moment: made by the session, drawn by the screen, told as lines, counted as metrics.

Plain values only, so that whoever draws may keep one moment beside the next. Text that came from the network is
untrusted, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LiveChannel:
    """One channel of the catalogue that was seen, since the start.

    Attributes
    ----------
    id, title : str
    core : bool
        One of the channels between control plane and nodes.
    verdict, sentence : str
        As in a report's ``channels``.
    answers, grades : mapping of str to mapping of str to int
        By question (`schema_document.QUESTIONS`): connections by answer, and by grade, every label present, as in a
        report's ``channels``. Connections that aged out stay counted.
    connections : int
        Since the start; never goes down.
    open : int
        Of them, those that have neither ended nor gone idle.
    packets, octets : int
        Since the start; never go down.
    packets_per_s, octets_per_s : float
        Lately.
    clients, servers : tuple of str
        Some endpoints' addresses.
    """

    id: str
    title: str
    core: bool
    verdict: str
    sentence: str
    answers: Mapping[str, Mapping[str, int]]
    grades: Mapping[str, Mapping[str, int]]
    connections: int
    open: int
    packets: int
    octets: int
    packets_per_s: float
    octets_per_s: float
    clients: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveFinding:
    """One finding, as a report's ``findings`` has it, and since when it is known.

    Attributes
    ----------
    identity : str
        The same from tick to tick: ``CODE/channel``, with a suffix where a suppression splits a finding.
    code, name, title, severity, grade, channel : str
    connections : int
        That show it, since the start.
    sentence : str
        What was seen (a report's ``message``).
    hosts : tuple of str
        Servers concerned.
    frames : tuple of int
        Some that show it, numbered since the start.
    filter : str
        Wireshark display filter.
    first_seen_ns : int
        Time of the frame, or of the tick, with which it became known.
    suppressed : str
        Why it does not count, where somebody accepted it; else empty.
    """

    identity: str
    code: str
    name: str
    title: str
    severity: str
    grade: str
    channel: str
    connections: int
    sentence: str
    first_seen_ns: int
    hosts: tuple[str, ...] = ()
    frames: tuple[int, ...] = ()
    filter: str = ""
    suppressed: str = ""


@dataclass(frozen=True, slots=True)
class LiveView:
    """Everything at one moment.

    Attributes
    ----------
    time_ns : int
        The moment, nanoseconds since the Unix epoch.
    frames, octets : int
        Taken since the start (octets on the wire).
    packets_per_s, octets_per_s : float
        Lately.
    channels : tuple of LiveChannel
        Worst first.
    findings : tuple of LiveFinding
        Most severe first.
    open_connections, retained_connections, aged_out : int
        Open; held in memory, open or not; gone from it since the start.
    concluded_ns : int
        When the verdicts were last concluded; they are as old as that.
    """

    time_ns: int
    frames: int
    octets: int
    packets_per_s: float
    octets_per_s: float
    channels: tuple[LiveChannel, ...] = field(default=())
    findings: tuple[LiveFinding, ...] = field(default=())
    open_connections: int = 0
    retained_connections: int = 0
    aged_out: int = 0
    concluded_ns: int = 0


@dataclass(frozen=True, slots=True)
class LiveHealth:
    """How the capture itself fares.

    Attributes
    ----------
    name, how : str
        What is read, and by what means.
    running_s : float
        Since the start.
    received : int or None
        Packets that the kernel saw on the interfaces, taken or dropped; None where nobody counts them.
    dropped : int or None
        Of them, those that the kernel dropped since the start; None where nobody counts them.
    lag_s : float
        From a packet's own time to when it was counted, lately.
    writing : str
        File that the packets are being written to; empty where they are not.
    problem : str
        What went wrong last and did not end the run; empty where nothing did.
    """

    name: str
    how: str
    running_s: float
    received: int | None = None
    dropped: int | None = None
    lag_s: float = 0.0
    writing: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is shown at one moment."""

    view: LiveView
    health: LiveHealth
