"""What an 8-bit network loses, what it may lose, and what the model card says of it."""

from pydantic import BaseModel, ConfigDict

GREATEST_FALL = 0.005
"""Of a finding's AUROC within sources, in floating point minus in 8-bit integers."""

GREATEST_ECE_RISE = 0.01
LEAST_AGREEMENT = 0.98
"""Part of the decisions of the flags, and of each of the gate's, that stay as they were."""

LEAST_DICE = 0.99
LEAST_SPEED_UP = 1.1
"""On a processor with instructions for 8-bit integers; on others the speed says nothing."""


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingLoss(_Figures):
    """One finding in floating point and in 8-bit integers, on the same validation pictures.

    ``fall_low`` and ``fall_high``: 95 % bootstrap interval of the AUROC's fall over patients.
    """

    key: str
    experimental: bool
    pictures: int
    positive_patients: int
    auroc_float: float | None
    auroc_int8: float | None
    fall_low: float | None
    fall_high: float | None
    ece_float: float
    ece_int8: float
    flags_agree: float

    @property
    def complaint(self) -> str | None:
        """Why this finding does not accept the 8-bit network, or None.

        An experimental finding has too few positives, or sees too little, for its AUROC to be
        known within 0.005: there the fall counts once its interval lies above the limit.
        """
        if self.auroc_float is not None and self.auroc_int8 is not None:
            fall = self.auroc_float - self.auroc_int8
            shown = self.fall_low if self.experimental else fall
            if shown is not None and shown >= GREATEST_FALL:
                return f"{self.key}: AUROC falls by {fall:.4f}"
        if self.experimental and self.positive_patients == 0:
            return None
        rise = self.ece_int8 - self.ece_float
        if rise > GREATEST_ECE_RISE:
            return f"{self.key}: calibration error rises by {rise:.3f}"
        return None


class Step(_Figures):
    """One trial of the search: what stayed in floating point, and what stood against it."""

    calibration: str
    in_float: tuple[str, ...]
    complaints: tuple[str, ...]


class QuantizationFigures(_Figures):
    """What ``vigil quantize`` measured; a section of ``metrics.json``.

    Speeds are processor milliseconds of one picture on one thread, medians of alternating runs.
    """

    digest: str
    accepted: bool
    calibration: str
    calibration_pictures: int
    validation_pictures: int
    blocks: int
    in_float: tuple[str, ...]
    steps: tuple[Step, ...]
    findings: tuple[FindingLoss, ...]
    flags_agree: float
    gate_agrees: dict[str, float]
    dice: dict[str, float]
    milliseconds_float: float
    milliseconds_int8: float
    bytes_float: int
    bytes_int8: int
    processor: tuple[str, ...]
    """Its instructions for 8-bit integers; none: the speed-up is not what these are made for."""
    onnxruntime: str

    @property
    def speed_up(self) -> float:
        """How many times as fast as floating point it is here."""
        return self.milliseconds_float / self.milliseconds_int8

    @property
    def complaints(self) -> tuple[str, ...]:
        """All that stands against the network: what it loses, and that it gains nothing."""
        if self.processor and self.speed_up < LEAST_SPEED_UP:
            gain = f"it is {self.speed_up:.2f} times as fast, expected {LEAST_SPEED_UP} or more"
            return (*self.losses, gain)
        return self.losses

    @property
    def losses(self) -> tuple[str, ...]:
        """All that is judged otherwise than in floating point."""
        found = [finding.complaint for finding in self.findings]
        lines = [line for line in found if line is not None]
        if self.flags_agree < LEAST_AGREEMENT:
            lines.append(f"{1 - self.flags_agree:.1%} of the flags change")
        lines += [
            f"{name}: {1 - share:.1%} of the gate's decisions change"
            for name, share in self.gate_agrees.items()
            if share < LEAST_AGREEMENT
        ]
        lines += [
            f"{name}: Dice with floating point {value:.3f}"
            for name, value in self.dice.items()
            if value < LEAST_DICE
        ]
        return tuple(lines)

    def card_lines(self) -> tuple[str, ...]:
        """Return the section's lines in the model card."""
        has = ", ".join(self.processor) or "none of VNNI, AMX, dot product"
        head = (
            "An 8-bit network lies beside the other; a processor with instructions for it uses it."
            if self.accepted
            else "No 8-bit network: " + "; ".join(self.complaints) + "."
        )
        return (
            head,
            "",
            f"- One picture on one thread: {self.milliseconds_float:.1f} ms in floating point, "
            f"{self.milliseconds_int8:.1f} ms in 8-bit integers, {self.speed_up:.2f} times as fast"
            f"; a processor with {has}, onnxruntime {self.onnxruntime}",
            f"- File: {self.bytes_float / 1e6:.1f} MB, {self.bytes_int8 / 1e6:.1f} MB",
            f"- {self.validation_pictures} validation pictures: {self.flags_agree:.2%} of the "
            "flags agree; calibrated on "
            f"{self.calibration_pictures} training pictures ({self.calibration})",
            f"- In floating point of {self.blocks} blocks: {', '.join(self.in_float) or 'none'}",
            *(f"- Outline of the {n}: Dice between the two {v:.3f}" for n, v in self.dice.items()),
            *(f"- Gate, {n}: {v:.2%} of the decisions agree" for n, v in self.gate_agrees.items()),
            "",
            "| finding | positive patients | AUROC float | AUROC int8 | ECE float | ECE int8 |",
            "|---|---|---|---|---|---|",
            *(
                f"| {f.key}{' (experimental)' if f.experimental else ''} | {f.positive_patients} "
                f"| {_decimal(f.auroc_float)} | {_decimal(f.auroc_int8)} "
                f"| {f.ece_float:.3f} | {f.ece_int8:.3f} |"
                for f in self.findings
            ),
        )


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
