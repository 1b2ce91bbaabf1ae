import pytest

from lightning_mi import MIBoundCallback
from lightning_mi.setting import FOR_SPEECH, THE_PAPERS, Setting, choose_setting


def test_what_is_left_open_hangs_on_the_data_and_what_is_given_does_not():
    assert choose_setting(True) == FOR_SPEECH == ("boundary", "canonical", "independent")
    assert choose_setting(False) == THE_PAPERS == ("mean", "kmeans", "shared")
    given = Setting("mean", "whitened", "shared")
    assert choose_setting(True, *given) == choose_setting(False, *given) == given


@pytest.mark.parametrize(("time_dim", "expected"), [(None, FOR_SPEECH), (1, THE_PAPERS), (-1, THE_PAPERS)])
def test_the_callback_is_built_without_an_argument_and_says_what_it_took(time_dim, expected):
    settings = MIBoundCallback(time_dim=time_dim).state_dict()["settings"]
    assert {name: settings[name] for name in Setting._fields} == expected._asdict()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "last"}, "`pooling` must be one of .* or None, got 'last'"),
        ({"quantizer": "wavelet"}, "`quantizer` must be one of"),
        ({"channels": "stereo"}, "`channels` must be one of .* or None, got 'stereo'"),
        (
            {"channels": "independent", "time_dim": 1},
            "`channels='independent'` changes waveforms, got feature sequences",
        ),
    ],
)
def test_bad_choices_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MIBoundCallback(**arguments)
