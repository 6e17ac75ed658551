"""Counting by channel: every connection is in one, and all channels together are the whole."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from analyzer.analysis import run
from analyzer.capture.source import open_capture
from analyzer.report.document import build_document
from analyzer.report.sections.counted import Counted
from tests.conftest import LAB


@pytest.mark.parametrize("name", ["13-admission-aggregation.pcap", "12-overlay-vxlan.pcap", "29-fmt-empty.pcap"])
def test_channels_add_up_to_the_whole(name: str) -> None:
    with open_capture(str(LAB / name)) as reader:
        result = run(reader)
    counted = Counted(result)
    whole = counted.of(np.ones(counted.channel.shape[0], bool))
    parts = [counted.of(counted.channel == number) for number in np.unique(counted.channel)]
    for total in ("connections", "silent", "packets", "octets"):
        assert whole[total] == sum(part[total] for part in parts)
    data = build_document(result)["connections"]["data"]
    legs = data["leg_of"]
    for question in ("encryption", "client_certificate", "server_verification"):
        rows = Counter(answer for answer, leg in zip(data[question], legs, strict=True) if leg < 0)
        assert {answer: count for answer, count in whole[question].items() if count} == dict(rows)
        assert sum(whole["grades"][question].values()) == whole["connections"]
