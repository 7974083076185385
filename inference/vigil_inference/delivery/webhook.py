"""A message a study to a program of the site: JSON, signed as Standard Webhooks asks.

The specification (standardwebhooks.com, 1.0.0) gives a receiver three headers: ``webhook-id``, the
same at every attempt, so that a repetition is known; ``webhook-timestamp``; and
``webhook-signature``, an HMAC-SHA256 of both and the body. Libraries that check it exist for most
languages.
"""

import base64
import hashlib
import hmac
import time

import httpx

from vigil_inference.delivery.destinations import WebhookDestination, read_secret
from vigil_inference.delivery.ledger import Parcel
from vigil_inference.delivery.peers import (
    Answer,
    Verdict,
    judge_http_status,
    no_connection,
    server_name,
)


class WebhookPeer:
    """A destination that hears of each study."""

    def __init__(self, destination: WebhookDestination) -> None:
        self._destination = destination

    def send(self, parcel: Parcel) -> Answer:
        """Post the study's message; the body is the same at every attempt."""
        destination = self._destination
        body = parcel.message.encode()
        timestamp = int(time.time())
        try:
            secret = read_secret(destination.secret_file.read_text(encoding="ascii"))
            verify = True if destination.tls is None else destination.tls.context()
            with httpx.Client(
                verify=verify, timeout=destination.timeout_seconds, trust_env=False
            ) as client:
                response = client.post(
                    destination.url,
                    content=body,
                    headers={
                        "Content-Type": "application/json",
                        "webhook-id": parcel.message_id,
                        "webhook-timestamp": str(timestamp),
                        "webhook-signature": sign(secret, parcel.message_id, timestamp, body),
                    },
                    extensions=server_name(destination.tls),
                )
        except ValueError:
            return Answer(Verdict.LATER, "SECRET_UNUSABLE", "the secret's file holds no secret")
        except (httpx.HTTPError, OSError) as error:
            return no_connection(error)
        return judge_http_status(response.status_code)

    def prove(self, parcel: Parcel) -> Answer:
        """Say that there is no proof; it is never asked for."""
        return Answer(Verdict.LATER, "PROOF_NOT_OFFERED", "a webhook's receiver proves nothing")

    def close(self) -> None:
        """Do nothing: each message has its own connection."""


def sign(secret: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message, version 1 of Standard Webhooks."""
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digest = hmac.new(secret, signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
