"""The worklist: studies in the order in which a radiologist should read them.

Nothing is left out and nothing is hidden: a study that could not be analysed stands among the
routine ones by its arrival, with its code and its sentence; what a filter hides is counted.
"""

from vigil_inference.worklist.page import Order, model_view, read_rows, read_worklist
from vigil_inference.worklist.patients import age_of, display_name
from vigil_inference.worklist.study_detail import read_study

__all__ = [
    "Order",
    "age_of",
    "display_name",
    "model_view",
    "read_rows",
    "read_study",
    "read_worklist",
]
