"""Compression as a device wants it: what comes may be compressed, an ack goes out as it is.

The library would compress every message once compression is negotiated. An ack grows by that, and the hub reads plain
short frames on a path of its own that costs it a quarter.
"""

from collections.abc import Sequence
from typing import Final

from websockets.extensions import Extension
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.frames import Frame
from websockets.typing import ExtensionParameter

__all__ = ["DeflateOffer"]

SHORTEST: Final = 512


class DeflateOffer(ClientPerMessageDeflateFactory):
    """Offers compression without a context on either side, so that the hub may share one frame among devices."""

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_response_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> PerMessageDeflate:
        """What the hub made of the offer. Raises NegotiationError."""
        agreed = super().process_response_params(params, accepted_extensions)
        return _SparingDeflate(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
            agreed.compress_settings,
        )


class _SparingDeflate(PerMessageDeflate):
    """Whole messages only: the SDK sends no parts."""

    def encode(self, frame: Frame) -> Frame:
        return frame if len(frame.data) < SHORTEST else super().encode(frame)
