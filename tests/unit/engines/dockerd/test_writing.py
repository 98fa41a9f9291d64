"""Which build is ended where the disk is full: the one that has written most."""

from moorage.engines.dockerd.builder import Writing


def test_build_that_wrote_most_is_ended_and_the_others_wait_until_it_is_cleared_up() -> None:
    writing = Writing()
    with writing.of("small"):
        with writing.of("large"):
            writing.note("small", {1: 500})
            writing.note("large", {2: 400})
            assert (writing.is_most("small"), writing.is_most("large")) == (True, False)
            writing.note("large", {2: 450, 3: 100})
            assert (writing.is_most("small"), writing.is_most("large")) == (False, True)
            writing.note("large", {3: 120})  # the other process has ended
            assert not writing.is_most("small")
        assert writing.is_most("small")


def test_builds_of_which_nothing_was_seen_may_each_be_ended() -> None:
    writing = Writing()
    with writing.of("one"), writing.of("other"):
        assert writing.is_most("one")
        assert writing.is_most("other")
