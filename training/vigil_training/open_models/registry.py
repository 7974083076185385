"""The open models that Vigil knows, with what their authors say of them.

Names, label orders, file names, input sizes and operating points are those of torchxrayvision
1.5.7 (``torchxrayvision/models.py``, Apache-2.0), and a test compares them with the installed
package. The AUROC figures are its authors' ``BENCHMARKS.md`` of 2023-07-23 (repository
mlmed/torchxrayvision), given there with two decimals for "20% of each dataset"; several of those
data sets are also in the models' training data, so the figures flatter. Where the authors publish
none, or where an output was not trained, there is none here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from vigil.errors import ConfigurationError

LICENCE = "Apache-2.0"
SOURCE = "https://github.com/mlmed/torchxrayvision"
BENCHMARKS = "mlmed/torchxrayvision BENCHMARKS.md, results updated 07/23/2023"
PREFIX = "xrv:"
"""How a run's ``network.init`` names one of these models."""

Architecture = Literal["densenet121", "resnet50"]

ORDER = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema",
    "Fibrosis", "Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass",
    "Hernia", "Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum",
)  # fmt: skip
"""The order of the 18 outputs, the same in every model; a model was not trained on all of them."""


@dataclass(frozen=True)
class OpenModel:
    """One published model.

    Attributes
    ----------
    name
        As its authors name it.
    architecture
        The network; its first convolution takes one channel and it has an output per ``ORDER``.
    size
        Side of the square input in pixels. The input is the central square of the picture over
        -1024 to 1024: version 2 of :mod:`vigil.preprocess`.
    file
        What the authors call the weights' file.
    trained_on
        The data sets, in the authors' words.
    operating_points
        Label to the sigmoid output at which the authors' ``op_norm`` puts its 0.5 (the Youden
        point on their own data); a label that is not here was not trained and means nothing.
    auroc
        Data set to label to AUROC, as its authors publish them; empty where they do not.
    """

    name: str
    architecture: Architecture
    size: int
    file: str
    trained_on: str
    operating_points: Mapping[str, float] = field(repr=False)
    auroc: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)

    @property
    def labels(self) -> tuple[str, ...]:
        """The outputs that were trained, in the order of the network."""
        return tuple(label for label in ORDER if label in self.operating_points)

    @property
    def url(self) -> str:
        """Where the authors publish the file."""
        return f"{SOURCE}/releases/download/v1/{self.file}"

    def mean_auroc(self, dataset: str) -> float | None:
        """Return the mean of the published figures on one data set, None if there are none."""
        figures = self.auroc.get(dataset, {})
        return sum(figures.values()) / len(figures) if figures else None


_BENCHMARKS: dict[str, dict[str, dict[str, float]]] = {
    "densenet121-res224-all": {
        "NIH ChestX-ray14": {
            "Atelectasis": 0.76, "Cardiomegaly": 0.88, "Consolidation": 0.77, "Edema": 0.85,
            "Effusion": 0.85, "Emphysema": 0.73, "Fibrosis": 0.72, "Hernia": 0.91,
            "Infiltration": 0.68, "Mass": 0.80, "Nodule": 0.69, "Pleural_Thickening": 0.74,
            "Pneumonia": 0.71, "Pneumothorax": 0.75,
        },
        "Google": {
            "Lung Opacity": 0.92, "Fracture": 0.74, "Pneumothorax": 0.85,
        },
        "RSNA": {
            "Lung Opacity": 0.88, "Pneumonia": 0.86,
        },
        "SIIM": {
            "Pneumothorax": 0.79,
        },
        "PadChest": {
            "Atelectasis": 0.77, "Cardiomegaly": 0.93, "Consolidation": 0.88, "Edema": 0.97,
            "Effusion": 0.95, "Emphysema": 0.87, "Fibrosis": 0.94, "Fracture": 0.70,
            "Hernia": 0.96, "Infiltration": 0.85, "Mass": 0.85, "Nodule": 0.69,
            "Pleural_Thickening": 0.79, "Pneumonia": 0.82, "Pneumothorax": 0.81,
        },
        "VinBrain": {
            "Atelectasis": 0.67, "Cardiomegaly": 0.90, "Consolidation": 0.93, "Effusion": 0.87,
            "Infiltration": 0.86, "Lung Opacity": 0.85, "Pleural_Thickening": 0.84,
            "Pneumothorax": 0.93,
        },
        "CheXpert": {
            "Atelectasis": 0.91, "Cardiomegaly": 0.91, "Consolidation": 0.90, "Edema": 0.92,
            "Enlarged Cardiomediastinum": 0.78, "Fracture": 0.74, "Lung Lesion": 0.84,
            "Lung Opacity": 0.87, "Effusion": 0.94, "Pneumonia": 0.84, "Pneumothorax": 0.85,
        },
    },
    "resnet50-res512-all": {
        "NIH ChestX-ray14": {
            "Atelectasis": 0.78, "Cardiomegaly": 0.90, "Consolidation": 0.78, "Edema": 0.89,
            "Effusion": 0.86, "Emphysema": 0.88, "Fibrosis": 0.76, "Hernia": 0.92,
            "Infiltration": 0.69, "Mass": 0.82, "Nodule": 0.76, "Pleural_Thickening": 0.76,
            "Pneumonia": 0.71, "Pneumothorax": 0.84,
        },
        "Google": {
            "Lung Opacity": 0.70, "Fracture": 0.88, "Pneumothorax": 0.92,
        },
        "RSNA": {
            "Lung Opacity": 0.85, "Pneumonia": 0.87,
        },
        "SIIM": {
            "Pneumothorax": 0.91,
        },
        "PadChest": {
            "Atelectasis": 0.80, "Cardiomegaly": 0.94, "Consolidation": 0.88, "Edema": 0.97,
            "Effusion": 0.95, "Emphysema": 0.86, "Fibrosis": 0.96, "Fracture": 0.86,
            "Hernia": 0.95, "Infiltration": 0.85, "Mass": 0.85, "Nodule": 0.76,
            "Pleural_Thickening": 0.85, "Pneumonia": 0.81, "Pneumothorax": 0.87,
        },
        "VinBrain": {
            "Atelectasis": 0.60, "Cardiomegaly": 0.85, "Consolidation": 0.91, "Effusion": 0.85,
            "Infiltration": 0.82, "Lung Opacity": 0.71, "Pleural_Thickening": 0.79,
            "Pneumothorax": 0.69,
        },
        "CheXpert": {
            "Atelectasis": 0.63, "Cardiomegaly": 0.84, "Consolidation": 0.74, "Edema": 0.79,
            "Fracture": 0.58, "Lung Opacity": 0.71, "Effusion": 0.81, "Pneumonia": 0.67,
            "Pneumothorax": 0.61,
        },
    },
}  # fmt: skip

_MODELS = (
    OpenModel(
        "densenet121-res224-all",
        "densenet121",
        224,
        "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "nih-pc-chex-mimic_ch-google-openi-rsna",
        {
            "Atelectasis": 0.07422872, "Consolidation": 0.038290843, "Infiltration": 0.09814756,
            "Pneumothorax": 0.0098118475, "Edema": 0.023601074, "Emphysema": 0.0022490358,
            "Fibrosis": 0.010060724, "Effusion": 0.103246614, "Pneumonia": 0.056810737,
            "Pleural_Thickening": 0.026791653, "Cardiomegaly": 0.050318155, "Nodule": 0.023985857,
            "Mass": 0.01939503, "Hernia": 0.042889766, "Lung Lesion": 0.053369623,
            "Fracture": 0.035975814, "Lung Opacity": 0.20204692,
            "Enlarged Cardiomediastinum": 0.05015312,
        },
        _BENCHMARKS["densenet121-res224-all"],
    ),
    OpenModel(
        "densenet121-res224-rsna",
        "densenet121",
        224,
        "kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "RSNA Pneumonia Challenge",
        {
            "Pneumonia": 0.13486601, "Lung Opacity": 0.13511065,
        },
    ),
    OpenModel(
        "densenet121-res224-nih",
        "densenet121",
        224,
        "nih-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "NIH ChestX-ray14",
        {
            "Atelectasis": 0.039117552, "Consolidation": 0.0034529066, "Infiltration": 0.11396341,
            "Pneumothorax": 0.0057298196, "Edema": 0.00045666535, "Emphysema": 0.0018880932,
            "Fibrosis": 0.012037827, "Effusion": 0.038744126, "Pneumonia": 0.0037213727,
            "Pleural_Thickening": 0.014730946, "Cardiomegaly": 0.016149804, "Nodule": 0.054241467,
            "Mass": 0.037198864, "Hernia": 0.0004403434,
        },
    ),
    OpenModel(
        "densenet121-res224-pc",
        "densenet121",
        224,
        "pc-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "PadChest",
        {
            "Atelectasis": 0.031012505, "Consolidation": 0.013347598, "Infiltration": 0.081435576,
            "Pneumothorax": 0.001262615, "Edema": 0.002587246, "Emphysema": 0.0035944257,
            "Fibrosis": 0.0023071, "Effusion": 0.055412333, "Pneumonia": 0.044385884,
            "Pleural_Thickening": 0.042766232, "Cardiomegaly": 0.043258056, "Nodule": 0.037629247,
            "Mass": 0.005658899, "Hernia": 0.0091741895, "Fracture": 0.026507627,
        },
    ),
    OpenModel(
        "densenet121-res224-chex",
        "densenet121",
        224,
        "chex-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "CheXpert",
        {
            "Atelectasis": 0.1988969, "Consolidation": 0.05710573, "Pneumothorax": 0.0531293,
            "Edema": 0.1435217, "Effusion": 0.27212676, "Pneumonia": 0.07749717,
            "Cardiomegaly": 0.19712369, "Lung Lesion": 0.09932402, "Fracture": 0.09273402,
            "Lung Opacity": 0.3270967, "Enlarged Cardiomediastinum": 0.10888247,
        },
    ),
    OpenModel(
        "densenet121-res224-mimic_nb",
        "densenet121",
        224,
        "mimic_nb-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "MIMIC-CXR, NegBio labels",
        {
            "Atelectasis": 0.08558747, "Consolidation": 0.011884617, "Pneumothorax": 0.0040595434,
            "Edema": 0.010733786, "Effusion": 0.118761964, "Pneumonia": 0.022924708,
            "Cardiomegaly": 0.06358637, "Lung Lesion": 0.022143636, "Fracture": 0.017476924,
            "Lung Opacity": 0.1258702, "Enlarged Cardiomediastinum": 0.014020768,
        },
    ),
    OpenModel(
        "densenet121-res224-mimic_ch",
        "densenet121",
        224,
        "mimic_ch-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt",
        "MIMIC-CXR, CheXpert labels",
        {
            "Atelectasis": 0.09121389, "Consolidation": 0.010573786, "Pneumothorax": 0.005023008,
            "Edema": 0.003698257, "Effusion": 0.08001232, "Pneumonia": 0.037242252,
            "Cardiomegaly": 0.05006329, "Lung Lesion": 0.019866971, "Fracture": 0.03823637,
            "Lung Opacity": 0.11303808, "Enlarged Cardiomediastinum": 0.0069147074,
        },
    ),
    OpenModel(
        "resnet50-res512-all",
        "resnet50",
        512,
        "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt",
        "pc-nih-rsna-siim-vin",
        {
            "Atelectasis": 0.51570356, "Consolidation": 0.50444704, "Infiltration": 0.53787947,
            "Pneumothorax": 0.50723547, "Edema": 0.5025118, "Emphysema": 0.5035252,
            "Fibrosis": 0.5038076, "Effusion": 0.51862943, "Pneumonia": 0.5078151,
            "Pleural_Thickening": 0.50724894, "Cardiomegaly": 0.5056339, "Nodule": 0.510706,
            "Mass": 0.5053923, "Hernia": 0.5020846, "Fracture": 0.5080557,
            "Lung Opacity": 0.5138526,
        },
        _BENCHMARKS["resnet50-res512-all"],
    ),
)  # fmt: skip

MODELS: Mapping[str, OpenModel] = MappingProxyType({model.name: model for model in _MODELS})


def find_model(name: str) -> OpenModel:
    """Return the model of this name, with or without ``xrv:`` before it.

    Raises
    ------
    ConfigurationError
        If there is none.
    """
    try:
        return MODELS[name.removeprefix(PREFIX)]
    except KeyError:
        raise ConfigurationError(
            f"no open model is called {name}; expected one of {', '.join(MODELS)}"
        ) from None
