"""A bundle at one site: its thresholds set from a few hundred local films.

::

    films        a bundle's answers on the site's films, finding by finding
    thresholds   what each threshold would give: sensitivity, specificity, yield, cost
    sample_size  how much some films let one be sure of, and how many it takes
    calibration  the file that the server loads, and the report beside it
    compare      two bundles at their own thresholds and at each other's
    drawing      the same as pictures

The method is that of the WHO's toolkit for computer-aided detection of tuberculosis (TDR and the
Global TB Programme, *Determining the local calibration of computer-assisted detection thresholds*,
2021): judge local films of known truth, look at what every threshold gives and costs, choose one.
"""
