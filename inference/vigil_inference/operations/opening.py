"""The service while it opens: its doors are shut, and the web server says why.

Bringing the schema of a large database up to date takes minutes. A balancer, an administrator and
a start-up script can ask meanwhile, and are told what is awaited.
"""

from collections.abc import Callable

import structlog

from vigil_inference.service import Service

log = structlog.get_logger(__name__)

CLOSED = {
    "database": "its schema is being brought up to date",
    "storage": "not looked at yet",
    "model": "not loaded yet",
    "dicom": "the DICOM port is closed",
}
FAILED = "the service could not start"


class Opening:
    """Makes a service and starts it, once.

    Parameters
    ----------
    make
        Returns the service; may take long, and raise.
    on_open
        Called with the service that is open.
    on_failure
        Called where there will be none; :attr:`error` says why.
    """

    def __init__(
        self,
        make: Callable[[], Service],
        on_open: Callable[[Service], None] = lambda service: None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._make = make
        self._on_open = on_open
        self._on_failure = on_failure
        self.service: Service | None = None
        """The service, once it is open."""
        self.error: Exception | None = None

    def open(self, hand_over: Callable[[Service], None] = lambda service: None) -> None:
        """Make and start the service; what goes wrong is kept, not raised.

        Parameters
        ----------
        hand_over
            Called with the service before anybody is told that it is open.
        """
        service: Service | None = None
        try:
            service = self._make()
            service.start()
        except Exception as error:  # whatever it is ends the program, with its own words
            self.error = error
            if service is not None:
                service.stop()
            self._on_failure()
            return
        hand_over(service)
        self.service = service
        self._on_open(service)

    def close(self) -> None:
        """Stop the service, if it was opened."""
        if self.service is not None:
            self.service.stop()

    def checks(self) -> dict[str, str]:
        """Return each part's state: "ok" or what is wrong with it, or awaited."""
        if self.service is not None:
            return self.service.checks()
        return dict(CLOSED, database=FAILED) if self.error is not None else dict(CLOSED)
