"""What a worker's consumer hears from its broker."""

from workers.hearing import Hearing


def test_silence_lasts_from_what_was_heard_last():
    at = [100.0]
    hearing = Hearing(clock=lambda: at[0])
    at[0] += 7
    assert hearing.silent_seconds == 7
    hearing.note()
    assert hearing.silent_seconds == 0
