"""Character sets, security, configuration, and what is not there."""

import ssl

from vigil_inference.conformance.markdown import table, template
from vigil_inference.dicom_transport import CIPHERS
from vigil_inference.settings import Settings

_NAMES = {ssl.TLSVersion.TLSv1_2: "1.2", ssl.TLSVersion.TLSv1_3: "1.3"}
_PREFIXES = (
    "dicom_",
    "stow_",
    "storage_",
    "watch_",
    "destinations",
    "delivery_",
    "result_",
)


def describe_security() -> str:
    """Return the last sections."""
    profiles = table(
        ("Profile", "Where", "Setting"),
        [
            (
                "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection (PS3.15 B.12)",
                "receiving, with or without client certificates",
                "`dicom_tls_certificate`, `dicom_tls_client_ca`, `dicom_require_tls`",
            ),
            ("the same", "sending by C-STORE, STOW-RS and webhook", "`tls` of a destination"),
        ],
    )
    rows = [
        (f"`{name}`", field.description)
        for name, field in Settings.model_fields.items()
        if name.startswith(_PREFIXES)
    ]
    return template("security").format(
        profiles=profiles,
        versions=" or ".join(_NAMES.values()),
        ciphers=CIPHERS,
        settings=table(("Setting", "What it is"), rows),
    )
