"""What the device compresses, and that the hub reads it."""

import pytest
from websockets.exceptions import NegotiationError
from websockets.frames import Frame, Opcode

from device.deflate import DeflateOffer
from hub.compression import DeflateFactory


def test_hub_and_device_agree_to_keep_no_context() -> None:
    offer = DeflateOffer()
    answer, inbound = DeflateFactory().process_request_params(
        [(name, value if value is None else str(value)) for name, value in offer.get_request_params()], []
    )
    agreed = offer.process_response_params(answer, [])
    assert agreed.remote_no_context_takeover
    assert agreed.local_no_context_takeover
    long = Frame(Opcode.TEXT, b'{"type":"sync","operations":[%b]}' % (b"1," * 2000))
    sent = agreed.encode(long)
    assert len(sent.data) < 200
    assert inbound.decode(sent, max_size=65536).data == long.data


def test_an_ack_goes_out_as_it_is() -> None:
    agreed = DeflateOffer().process_response_params(
        [("server_no_context_takeover", None), ("client_no_context_takeover", None)], []
    )
    ack = Frame(Opcode.TEXT, b'{"type":"ack","seq":7}')
    assert agreed.encode(ack) is ack


def test_an_answer_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(NegotiationError):
        DeflateOffer().process_response_params([("server_max_window_bits", "99")], [])
