"""Query parameters that several lists take."""

from typing import Final

from api.description import Parameter
from api.descriptions.common import Cursor, DeviceId, Limit

__all__ = ["CURSOR", "DEVICE_ID", "LIMIT", "PAGE"]

LIMIT: Final = Parameter(name="limit", kind=Limit, about="At most so many.", example=50)
CURSOR: Final = Parameter(name="cursor", kind=Cursor, about="Go on after that page; the filters stay as they were.")
PAGE: Final = (LIMIT, CURSOR)
DEVICE_ID: Final = Parameter(name="device_id", kind=DeviceId, about="Only those of this device.", example="truck-7")
