"""The directory of an engine's sockets."""

from pathlib import Path

import pytest

from moorage.engines.host.configuration import HostConfiguration
from moorage.errors import ConfigurationInvalid


@pytest.mark.parametrize(("length", "fits"), [(60, True), (70, False)])
def test_run_dir_that_is_too_long_for_sockets_is_refused_with_what_to_do(
    length: int, fits: bool
) -> None:
    run_dir = Path("/" + "r" * length)

    def configured() -> HostConfiguration:
        return HostConfiguration(
            state_dir=Path("/state"), run_dir=run_dir, instance_id="abcdef", tools={}
        )

    if fits:
        assert configured().run_dir == run_dir
        return
    with pytest.raises(ConfigurationInvalid, match=r"run_dir: .* Set run_dir to a short one"):
        configured()
