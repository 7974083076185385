"""Patients as they are read: names and ages as DICOM writes them, said plainly."""

from datetime import UTC, date, datetime


def display_name(person_name: str) -> str:
    """Return a DICOM person name for reading: the alphabetic group, then another in brackets.

    ``Yamada^Tarou=山田^太郎`` becomes ``Yamada Tarou (山田 太郎)`` (DICOM PS3.5 section 6.2.1).
    """
    groups = [" ".join(group.replace("^", " ").split()) for group in person_name.split("=")]
    first, *others = [group for group in groups if group] or [""]
    return f"{first} ({others[0]})" if others else first


def age_of(patient_age: str, birth_date: str, study_date: str) -> str:
    """Return a patient's age in DICOM's form, from the birth date where it is not given."""
    if patient_age:
        return patient_age
    born, seen = _date(birth_date), _date(study_date) or datetime.now(UTC).date()
    if born is None or seen < born:
        return ""
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    if years >= 2:
        return f"{years:03d}Y" if years < 150 else ""
    months = 12 * (seen.year - born.year) + seen.month - born.month - (seen.day < born.day)
    return f"{months:03d}M"


def _date(text: str) -> date | None:
    try:
        return datetime.strptime(text.replace(".", ""), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
