"""The names that the package itself offers."""

import inspect

import pytest

import moorage
from moorage.sdk import app


def test_package_offers_the_call_with_and_without_an_event_loop() -> None:
    assert moorage.deploy is app.deploy
    assert not inspect.iscoroutinefunction(moorage.deploy)
    assert inspect.iscoroutinefunction(moorage.deploy_async)


def test_package_has_no_other_name() -> None:
    with pytest.raises(ImportError, match="undeploy"):
        exec("from moorage import undeploy")
