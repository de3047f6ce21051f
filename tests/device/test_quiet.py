import logging

import pytest

from device.quiet import WIRE_LOG, unlogged


def test_only_our_own_requests_are_kept_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("httpx")
    with caplog.at_level(logging.DEBUG):
        log.info("before")
        with unlogged():
            log.info("ours")
            logging.getLogger("httpcore.http11").debug("ours")
            logging.getLogger("application").info("between")
        log.info("after")
        assert not WIRE_LOG.isEnabledFor(logging.DEBUG)
    assert [record.getMessage() for record in caplog.records] == ["before", "between", "after"]
