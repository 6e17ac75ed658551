from __future__ import annotations

import pytest

from analyzer.report.filters import with_frames, without_frames


@pytest.mark.parametrize("around", ["tls", "(ip.addr == 10.0.0.1) && (http || http2)", "a || frame.number in {1}"])
@pytest.mark.parametrize("frames", [[], [7], [1, 20, 300]])
def test_numbers_come_and_go(around: str, frames: list[int]) -> None:
    written = with_frames(around, frames)

    assert (without_frames(written) if frames else written) == around
    assert all(str(frame) in written for frame in frames)
