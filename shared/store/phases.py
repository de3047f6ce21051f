"""Where a feed of a cloud provider is [pure].

changes: it follows the provider's log; full: it is in a run over everything; sweep: it forgets what that did not see.
"""

from typing import Literal

__all__ = ["Phase"]

Phase = Literal["changes", "full", "sweep"]
