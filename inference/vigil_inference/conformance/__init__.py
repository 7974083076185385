"""The DICOM conformance statement, made from the tables that the service itself uses.

``python -m vigil_inference.conformance`` prints it; ``docs/conformance.md`` is that text, and a
test compares the two. Each section's words are in a file ``.md`` beside its module.

==============  ====================================================================================
Module          What it describes
==============  ====================================================================================
``overview``    what the service is, and its table of contents
``receiving``   the listening application entity
``sending``     the sending one
``web``         DICOMweb
``objects``     what Vigil makes, attribute by attribute
``security``    profiles, character sets, and what is not there
``markdown``    texts and tables
``statement``   all of it, in its order
==============  ====================================================================================
"""
