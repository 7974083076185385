import re
from pathlib import Path

import pytest

from vigil.errors import ConfigurationError
from vigil_inference.settings import Settings, load_settings

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def test_every_setting_is_documented_with_its_default_and_no_other_is() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    [section] = re.findall(r"^## Settings$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([a-z_]+)` \|", section, re.MULTILINE)
    assert rows == list(Settings.model_fields)


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vigil.toml"
    path.write_text('site = "file"\nhttp_port = 1\ndicom_port = 1\n', encoding="utf-8")
    monkeypatch.setenv("VIGIL_HTTP_PORT", "2")
    monkeypatch.setenv("VIGIL_DICOM_PORT", "2")
    monkeypatch.setenv("VIGIL_CONFIG", str(path))
    settings = load_settings(dicom_port=3, data_dir=None)
    assert (settings.site, settings.http_port, settings.dicom_port) == ("file", 2, 3)
    assert settings.data_dir == Path("var")


def test_titles_come_as_a_list_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIGIL_DICOM_ALLOWED_CALLING_AE_TITLES", '["ORTHANC", "PACS"]')
    assert load_settings().dicom_allowed_calling_ae_titles == ["ORTHANC", "PACS"]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("http_prot = 1\n", "http_prot"),
        ('http_port = "many"\n', "http_port"),
        ('dicom_ae_title = "MUCH TOO LONG A TITLE"\n', "dicom_ae_title"),
        ("http_port = \n", "vigil.toml"),
        ('database_url = "vigil.db"\n', "database_url"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(
    tmp_path: Path, content: str, named: str
) -> None:
    path = tmp_path / "vigil.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=named):
        load_settings(path)


def test_a_settings_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such settings file"):
        load_settings(tmp_path / "none.toml")


def test_only_this_machine_may_ask_a_service_that_is_bound_to_it() -> None:
    assert "*" not in Settings().allowed_hosts
    assert Settings(http_host="0.0.0.0").allowed_hosts == ["*"]
    assert Settings(http_allowed_hosts=["vigil.local"]).allowed_hosts == ["vigil.local"]
