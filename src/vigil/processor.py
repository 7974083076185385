"""Which of a bundle's networks answers: floating point, or 8-bit integers where these are fast.

A processor without an instruction that sums products of 8-bit integers gains little from them, so
it keeps the network that was calibrated.
"""

import os
from collections.abc import Collection
from enum import StrEnum
from functools import cache
from typing import Literal

import onnxruntime
from archspec.cpu import detect, host

from vigil.errors import BundleError, ConfigurationError

NetworkChoice = Literal["auto", "float", "int8"]
NETWORK_VARIABLE = "VIGIL_NETWORK"
_CHOICES: tuple[NetworkChoice, ...] = ("auto", "float", "int8")

INTEGER_FEATURES = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Linux's names of the instructions: on x86 VNNI and AMX, on ARM the dot product and i8mm."""


class Network(StrEnum):
    """A bundle's network, by what it calculates in."""

    FLOAT32 = "float32"
    INT8 = "int8"


@cache
def processor_features() -> frozenset[str]:
    """Return what this processor can do, in Linux's names."""
    # host() knows the features of a processor that only tells its name, as Apple's do.
    return frozenset(detect.detected_info().features) | frozenset(host().features)


def integer_features(features: Collection[str] | None = None) -> tuple[str, ...]:
    """Return which of ``INTEGER_FEATURES`` are there, sorted; of this processor by default."""
    present = processor_features() if features is None else features
    return tuple(sorted(INTEGER_FEATURES.intersection(present)))


def exact_integers(
    options: onnxruntime.SessionOptions, features: Collection[str] | None = None
) -> None:
    """Let a session multiply 8-bit integers without overflow on every processor.

    On x86 without VNNI the fast instruction sums two products in 16 bits, which overflow: other
    scores than on a processor with VNNI. onnxruntime is then asked for a slower, exact way. Where
    there is VNNI the fast way is exact, and onnxruntime, asked all the same, would take twice the
    time for the same bits.

    Parameters
    ----------
    options
        The session's.
    features
        What the processor can do; this one by default.
    """
    if not integer_features(features):
        options.add_session_config_entry("session.x64quantprecision", "1")


def network_choice() -> NetworkChoice:
    """Return what ``$VIGIL_NETWORK`` says, ``auto`` if it says nothing.

    Raises
    ------
    ConfigurationError
        If it is none of the choices.
    """
    named = os.environ.get(NETWORK_VARIABLE) or "auto"
    for choice in _CHOICES:
        if named == choice:
            return choice
    raise ConfigurationError(f"{NETWORK_VARIABLE} is {named}, expected {', '.join(_CHOICES)}")


def choose_network(
    choice: NetworkChoice, has_int8: bool, features: Collection[str] | None = None
) -> Network:
    """Return which network answers.

    Parameters
    ----------
    choice
        ``float`` or ``int8`` decide; ``auto`` takes 8-bit integers where the bundle has such a
        network and the processor multiplies them fast.
    has_int8
        Whether the bundle brings one.
    features
        What the processor can do; this one by default.

    Raises
    ------
    BundleError
        If 8-bit integers are asked for and the bundle has no such network.
    """
    if choice == "int8" and not has_int8:
        raise BundleError("the 8-bit network is asked for, but the bundle brings none")
    if choice == "float" or not has_int8:
        return Network.FLOAT32
    if choice == "int8" or integer_features(features):
        return Network.INT8
    return Network.FLOAT32
