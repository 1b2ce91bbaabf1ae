"""What is said of utterances that are too short fits them."""

import re

import pytest

from lightning_mi.inputs.segments import SegmentSampler, parse_gaps
from lightning_mi.inputs.too_short import why_too_short


@pytest.mark.parametrize(("gaps", "speed"), [("near", 1.0), (["same", "far"], 1.3), (0.25, 1.0)])
@pytest.mark.parametrize("longest", [15_999, 12_000, 6000])
def test_the_advice_fits(gaps, speed, longest):
    sampler = SegmentSampler(0.5, parse_gaps(gaps), 16_000, seed=0, channels="independent", speed=speed)
    text = why_too_short(sampler, [1000, longest])
    assert f"{longest} samples" in text
    seconds = float(re.search(r"Pass `segment_seconds=([\d.]+)`", text).group(1))
    made = SegmentSampler(
        seconds, parse_gaps("near") if 'gap_seconds="near"' in text else sampler.gaps, 16_000, 0, speed=speed
    )
    assert made.shortest <= longest


def test_nothing_is_said_of_what_fits():
    sampler = SegmentSampler(0.5, parse_gaps("near"), 16_000, seed=0)
    assert why_too_short(sampler, [16_000, 3]) is None
    assert why_too_short(sampler, []) is None
    assert "Validate on longer" in why_too_short(sampler, [500])
