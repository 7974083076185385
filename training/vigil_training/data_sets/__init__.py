"""Published sets of chest films, read into the one manifest.

::

    film          a film and what is known of it; writes the manifest
    table         a set's words and ours, as TOML that a radiologist can read (tables/)
    records       CSV files of others, with errors that name the row
    sets          which sets there are
    chest_xray14, chexpert, vindr, padchest, challenges, tuberculosis, open_i, own
                  a reader each
    near_copies   pictures that are the same film
    check         refuses what would leak between training and judging
    inspection    what is in a manifest, as a page with pictures

A label is positive, negative, uncertain or unknown. The manifest's ``label_scope`` holds what is
known, positive and negative; ``uncertain`` stands in a column of its own and in no scope.
"""
