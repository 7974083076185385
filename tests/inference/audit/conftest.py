from tests.inference.access.conftest import (  # noqa: F401 - fixtures
    guarded,
    guarded_settings,
    sign_in,
    stranger,
)
