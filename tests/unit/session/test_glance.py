"""What is shown between two conclusions: packets count for the channel that their connections count for."""

from __future__ import annotations

import numpy as np

from analyzer.decode import Decoder
from analyzer.flows import FlowBuilder
from analyzer.session.glance import LEG, Meter
from tests.builders import Conversation, chunk


def counted(conversations: int) -> FlowBuilder:
    """Flows of one packet each."""
    taken = chunk([Conversation(sport=40000 + number).open().frames[0] for number in range(conversations)])
    flows = FlowBuilder()
    flows.add(Decoder().decode(taken), taken.octets)
    return flows


def test_what_is_set_aside_follows_its_stand_in_to_another_channel() -> None:
    meter, none = Meter(), np.empty(0, np.int64)
    meter.read(0, counted(4))
    meter.assign(np.array([5, 5, LEG, LEG]), np.arange(4), none, none)
    assert meter.total[:, 0].nonzero()[0].tolist() == [5]

    # 1 stands behind 0, and 3, its leg, behind 2; then a role is learned.
    meter.assign(np.array([7, LEG]), np.array([0, 2]), np.array([1, 3]), np.array([0, 2]))

    assert meter.channel.tolist() == [7, 7, LEG, LEG]
    assert meter.total[7, 0] == 2
    assert meter.count_by_channel(np.ones(4, bool)).nonzero()[0].tolist() == [7]
