"""The states of a delivery."""

from enum import StrEnum


class DeliveryState(StrEnum):
    """How far a delivery has come; ``docs/delivery.md`` draws the way."""

    PENDING = "PENDING"
    """To be sent, now or after a wait."""
    SENDING = "SENDING"
    """A node is sending it; if that node falls silent, another takes over."""
    SENT = "SENT"
    """The destination acknowledged it. Not proved to be held, or not yet."""
    DELIVERED = "DELIVERED"
    """The destination proved that it holds it."""
    FAILED = "FAILED"
    """Given up, with the reason; a person may retry it."""
    CANCELLED = "CANCELLED"
    """A person said that it shall not go; it may be retried."""
