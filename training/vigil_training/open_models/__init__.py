"""Open chest-radiograph models as starting points: listed, fetched, checked, and made bundles.

Nothing here trusts a weights file: :mod:`.pickles` reads it without running any of it,
:mod:`.store` keeps it as safetensors with its SHA-256, and only that is used afterwards.
"""
