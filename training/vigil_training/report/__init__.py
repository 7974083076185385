"""An evaluation that a reviewer accepts, as one page and as JSON.

::

    contents      what the JSON holds, and its schema's version
    scores        the service's answers as a file, so that a report is made again without pictures
    findings      curves, thresholds and what is withheld, finding by finding and source by source
    comparison    two bundles on the same films: paired DeLong tests, corrected for their number
    localisation  free-response curves against radiologists' boxes
    failures      the worst misses and false alarms, with pictures and maps
    drift         how two manifests differ: ages, sexes, views, labels, pictures, embeddings
    cautions      what must be known before a figure is believed, with rows and advice
    checklists    CLAIM and TRIPOD+AI: what the report answers, where, and who must answer the rest
    build         all of it together
    diagrams      the plots, each with its numbers in words
    drawn         axes, lines and bars as SVG
    page          one HTML file that needs no network
"""
