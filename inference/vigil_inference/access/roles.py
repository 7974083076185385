"""Roles and what each may see and do: one table, which the documentation shares."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What somebody, or a machine, is here."""

    TECHNICIAN = "technician"
    RADIOLOGIST = "radiologist"
    RESEARCHER = "researcher"
    ADMINISTRATOR = "administrator"
    SERVICE = "service"


class Permission(StrEnum):
    """What a route of the interface asks of an account."""

    SEE_WORKLIST = "see_worklist"
    """The worklist, studies, their findings and reasons."""
    SEE_PICTURES = "see_pictures"
    """Pictures, heat maps, DICOM tags, results, and DICOMweb's queries and retrievals."""
    SEND_PICTURES = "send_pictures"
    """STOW-RS."""
    READ_STUDIES = "read_studies"
    """Take a study, agree, disagree, add, note, sign off, undo."""
    RAISE_PRIORITY = "raise_priority"
    EXPORT_READINGS = "export_readings"
    """Readings as a training manifest, and agreement statistics."""
    SEE_OPERATIONS = "see_operations"
    """Deliveries, nodes, the model's state."""
    CHANGE_DELIVERIES = "change_deliveries"
    MANAGE_MODELS = "manage_models"
    MANAGE_ACCOUNTS = "manage_accounts"
    SEE_AUDIT_TRAIL = "see_audit_trail"


_SEE = frozenset({Permission.SEE_WORKLIST, Permission.SEE_PICTURES})

ALLOWED: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        # Must see why a film was refused, and that the picture came; asks for a study to be read.
        Role.TECHNICIAN: _SEE | {Permission.SEND_PICTURES, Permission.RAISE_PRIORITY},
        Role.RADIOLOGIST: _SEE
        | {
            Permission.READ_STUDIES,
            Permission.RAISE_PRIORITY,
            Permission.EXPORT_READINGS,
        },
        Role.RESEARCHER: _SEE | {Permission.EXPORT_READINGS, Permission.SEE_OPERATIONS},
        # Runs the service and need not see patients to do so; an administrator who reads has a
        # second account.
        Role.ADMINISTRATOR: frozenset(
            {
                Permission.SEE_WORKLIST,
                Permission.SEE_OPERATIONS,
                Permission.CHANGE_DELIVERIES,
                Permission.MANAGE_MODELS,
                Permission.MANAGE_ACCOUNTS,
                Permission.SEE_AUDIT_TRAIL,
            }
        ),
        Role.SERVICE: _SEE | {Permission.SEND_PICTURES, Permission.SEE_OPERATIONS},
    }
)
