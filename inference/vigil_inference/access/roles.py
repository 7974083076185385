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


WHAT_FOR: Mapping[Permission, str] = MappingProxyType(
    {
        Permission.SEE_WORKLIST: "the worklist; studies with findings and reasons; live updates",
        Permission.SEE_PICTURES: "pictures, heat maps, results as DICOM, DICOMweb's searches and "
        "retrievals",
        Permission.SEND_PICTURES: "send by STOW-RS",
        Permission.READ_STUDIES: "take a study, agree, disagree, add, note, sign off, undo",
        Permission.RAISE_PRIORITY: "raise a study's priority",
        Permission.EXPORT_READINGS: "readings as a training manifest, agreement statistics",
        Permission.SEE_OPERATIONS: "deliveries, nodes, status, metrics, the model's state",
        Permission.CHANGE_DELIVERIES: "send results again, cancel deliveries",
        Permission.MANAGE_MODELS: "change which model judges",
        Permission.MANAGE_ACCOUNTS: "make, change and disable accounts",
        Permission.SEE_AUDIT_TRAIL: "the audit trail",
    }
)
"""The same for people who read the documentation."""

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
