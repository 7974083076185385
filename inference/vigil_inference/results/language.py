"""What the result objects say to people, in Vietnamese, English and French.

Codes carry their meaning in English, as the coding schemes have it; only text is translated.
Texts are in Unicode's composed form (NFC), so that a font needs no shaping to show them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from vigil.errors import RefusalCode
from vigil.findings import Code
from vigil.radiograph import View
from vigil.triage import Flag, Priority
from vigil_inference.results.region import Correction
from vigil_inference.results.study import Language

DISCLAIMER = "AI – research use – not for diagnosis"
"""Stands on every capture, whatever its language."""


@dataclass(frozen=True)
class Phrases:
    """One language's words. Braces are filled in by the functions below."""

    code: Code
    """The language itself (DICOM PS3.16 CID 5000)."""
    title: str
    disclaimer: str
    not_a_device: str
    findings: Mapping[str, str] = field(repr=False)
    priorities: Mapping[Priority, str]
    refusals: Mapping[RefusalCode, str] = field(repr=False)
    threshold: str
    flagged: str
    case_flag: str
    no_case_flag: str
    not_analysed: str
    withheld: str
    turns: tuple[str, str, str]
    inverted: str
    conjunction: str
    corrected: str
    original_panel: str
    map_panel: str
    no_map: str
    more: str
    percent: str
    ratio: str
    decimal_sign: str
    ap_film: str


def phrases_of(language: Language) -> Phrases:
    """Return a language's words."""
    return _PHRASES[language]


def percent(probability: float, phrases: Phrases) -> str:
    """Return a probability as per cent, whole, and never rounded to certainty."""
    shown = min(99, max(1, round(100 * probability)))
    return phrases.percent.format(shown)


def ratio_sentence(ratio: float, view: View, phrases: Phrases) -> str:
    """Return the cardiothoracic ratio to a hundredth, with what an AP film does to it."""
    number = f"{ratio:.2f}".replace(".", phrases.decimal_sign)
    sentence = phrases.ratio.format(number)
    return f"{sentence} ({phrases.ap_film})" if view is View.AP else sentence


def flag_sentence(flag: Flag, phrases: Phrases) -> str:
    """Return a flag with its probability and threshold."""
    return (
        f"{phrases.findings.get(flag.label, flag.label)} {percent(flag.probability, phrases)} "
        f"({phrases.threshold} {percent(flag.threshold, phrases)})"
    )


def correction_sentence(correction: Correction, phrases: Phrases) -> str:
    """Return what was done to a picture before its analysis, empty if nothing was."""
    done = []
    if correction.quarter_turns:
        done.append(phrases.turns[correction.quarter_turns - 1])
    if correction.is_inverted:
        done.append(phrases.inverted)
    return phrases.corrected.format(f" {phrases.conjunction} ".join(done)) if done else ""


_VIETNAMESE = Phrases(
    code=Code("vi", "RFC5646", "Vietnamese"),
    title="Phân loại ưu tiên X-quang ngực bằng AI",
    disclaimer="AI – chỉ dùng cho nghiên cứu – không dùng để chẩn đoán",
    not_a_device="Chỉ dùng cho nghiên cứu, không phải là thiết bị y tế.",
    findings={
        "Atelectasis": "Xẹp phổi",
        "Cardiomegaly": "Bóng tim to",
        "Consolidation": "Đông đặc phổi",
        "Edema": "Phù phổi",
        "Effusion": "Tràn dịch màng phổi",
        "Emphysema": "Khí phế thũng",
        "Fibrosis": "Xơ phổi",
        "Hernia": "Thoát vị hoành",
        "Infiltration": "Thâm nhiễm phổi",
        "Lung_Lesion": "Tổn thương phổi",
        "Lung_Opacity": "Mờ phổi",
        "Mass": "Khối mờ ở phổi",
        "Nodule": "Nốt mờ ở phổi",
        "Pleural_Thickening": "Dày màng phổi",
        "Pneumonia": "Viêm phổi",
        "Pneumothorax": "Tràn khí màng phổi",
        "Tuberculosis": "Lao phổi",
    },
    priorities={
        Priority.CRITICAL: "TỐI KHẨN",
        Priority.URGENT: "KHẨN",
        Priority.ROUTINE: "THƯỜNG QUY",
        Priority.NOT_ANALYSED: "KHÔNG PHÂN TÍCH",
    },
    refusals={
        RefusalCode.FILE_UNREADABLE: "không đọc được tệp",
        RefusalCode.NOT_RADIOGRAPH: "đối tượng không phải là phim X-quang",
        RefusalCode.NO_PIXELS: "đối tượng không chứa hình ảnh",
        RefusalCode.FOR_PROCESSING: "ảnh chưa xử lý để hiển thị",
        RefusalCode.DERIVED: "ảnh là kết quả tạo ra từ ảnh khác",
        RefusalCode.MULTI_FRAME: "đối tượng có nhiều khung hình",
        RefusalCode.COLOUR: "ảnh màu",
        RefusalCode.TOO_SMALL: "ảnh quá nhỏ",
        RefusalCode.TOO_LARGE: "ảnh quá lớn",
        RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED: "không hỗ trợ cách nén của ảnh",
        RefusalCode.PIXELS_CORRUPT: "dữ liệu ảnh bị hỏng",
        RefusalCode.NO_CONTRAST: "ảnh không có độ tương phản",
        RefusalCode.NOT_CHEST: "không phải phim ngực",
        RefusalCode.NOT_FRONTAL: "không phải phim ngực thẳng",
        RefusalCode.PAEDIATRIC: "bệnh nhân là trẻ em; mô hình chưa được kiểm định cho trẻ em",
        RefusalCode.ROTATED: "phim bị xoay và không chỉnh lại được",
        RefusalCode.INVERTED_UNCERTAIN: "không rõ phim có bị đảo đen trắng hay không",
        RefusalCode.UNFAMILIAR: "ảnh quá khác với các phim mà mô hình đã học",
        RefusalCode.MODEL_UNAVAILABLE: "mô hình chưa sẵn sàng",
        RefusalCode.INTERNAL_ERROR: "lỗi phần mềm",
    },
    threshold="ngưỡng",
    flagged="Dấu hiệu được cảnh báo",
    case_flag="Ca chụp này được cảnh báo để đọc ưu tiên.",
    no_case_flag="Ca chụp này không được cảnh báo. Điều đó không nói gì về nội dung phim.",
    not_analysed="Không phân tích",
    withheld="Không đánh giá ở bệnh nhân hoặc tư thế chụp này",
    turns=("xoay 90° theo chiều kim đồng hồ", "xoay 180°", "xoay 90° ngược chiều kim đồng hồ"),
    inverted="đảo đen trắng",
    conjunction="và",
    corrected="Trước khi phân tích, ảnh đã được {}.",
    original_panel="Ảnh đã phân tích",
    map_panel="Vùng mô hình chú ý",
    no_map="không có bản đồ",
    more="và {} dấu hiệu khác, xem báo cáo",
    percent="{}%",
    ratio="Chỉ số tim – lồng ngực (CTR) {}",
    decimal_sign=",",
    ap_film="phim AP: bóng tim trông to hơn",
)

_ENGLISH = Phrases(
    code=Code("en", "RFC5646", "English"),
    title="AI chest X-ray triage",
    disclaimer=DISCLAIMER,
    not_a_device="Research use only, not a medical device.",
    findings={
        "Atelectasis": "Atelectasis",
        "Cardiomegaly": "Cardiomegaly",
        "Consolidation": "Consolidation",
        "Edema": "Pulmonary oedema",
        "Effusion": "Pleural effusion",
        "Emphysema": "Emphysema",
        "Fibrosis": "Fibrosis",
        "Hernia": "Diaphragmatic hernia",
        "Infiltration": "Infiltrate",
        "Lung_Lesion": "Lung lesion",
        "Lung_Opacity": "Lung opacity",
        "Mass": "Lung mass",
        "Nodule": "Lung nodule",
        "Pleural_Thickening": "Pleural thickening",
        "Pneumonia": "Pneumonia",
        "Pneumothorax": "Pneumothorax",
        "Tuberculosis": "Pulmonary tuberculosis",
    },
    priorities={
        Priority.CRITICAL: "CRITICAL",
        Priority.URGENT: "URGENT",
        Priority.ROUTINE: "ROUTINE",
        Priority.NOT_ANALYSED: "NOT ANALYSED",
    },
    refusals={
        RefusalCode.FILE_UNREADABLE: "the file cannot be read",
        RefusalCode.NOT_RADIOGRAPH: "the object is not a radiograph",
        RefusalCode.NO_PIXELS: "the object holds no picture",
        RefusalCode.FOR_PROCESSING: "the picture is not processed for presentation",
        RefusalCode.DERIVED: "the picture was made from another",
        RefusalCode.MULTI_FRAME: "the object holds several frames",
        RefusalCode.COLOUR: "the picture is in colour",
        RefusalCode.TOO_SMALL: "the picture is too small",
        RefusalCode.TOO_LARGE: "the picture is too large",
        RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED: "the picture's compression is not supported",
        RefusalCode.PIXELS_CORRUPT: "the picture's data are damaged",
        RefusalCode.NO_CONTRAST: "the picture has no contrast",
        RefusalCode.NOT_CHEST: "it is not a chest film",
        RefusalCode.NOT_FRONTAL: "it is not a frontal film",
        RefusalCode.PAEDIATRIC: "the patient is a child; the model was not validated on children",
        RefusalCode.ROTATED: "the film is turned and could not be put right",
        RefusalCode.INVERTED_UNCERTAIN: "it is not certain whether black and white are swapped",
        RefusalCode.UNFAMILIAR: "the picture is too unlike the films the model learnt from",
        RefusalCode.MODEL_UNAVAILABLE: "the model was not available",
        RefusalCode.INTERNAL_ERROR: "the software failed",
    },
    threshold="threshold",
    flagged="Flagged",
    case_flag="This study was flagged for prioritised reading.",
    no_case_flag="This study was not flagged. That says nothing of what the films show.",
    not_analysed="Not analysed",
    withheld="Not judged in this patient or this view",
    turns=("turned 90° clockwise", "turned 180°", "turned 90° anticlockwise"),
    inverted="inverted",
    conjunction="and",
    corrected="Before its analysis the picture was {}.",
    original_panel="The picture as analysed",
    map_panel="Where the model looked",
    no_map="no map",
    more="and {} more, see the report",
    percent="{}%",
    ratio="Cardiothoracic ratio (CTR) {}",
    decimal_sign=".",
    ap_film="AP: the heart looks larger",
)

_FRENCH = Phrases(
    code=Code("fr", "RFC5646", "French"),
    title="Triage IA des radiographies thoraciques",
    disclaimer="IA – usage de recherche – pas pour le diagnostic",
    not_a_device="Réservé à la recherche, n’est pas un dispositif médical.",
    findings={
        "Atelectasis": "Atélectasie",
        "Cardiomegaly": "Cardiomégalie",
        "Consolidation": "Condensation pulmonaire",
        "Edema": "Œdème pulmonaire",
        "Effusion": "Épanchement pleural",
        "Emphysema": "Emphysème",
        "Fibrosis": "Fibrose pulmonaire",
        "Hernia": "Hernie diaphragmatique",
        "Infiltration": "Infiltrat pulmonaire",
        "Lung_Lesion": "Lésion pulmonaire",
        "Lung_Opacity": "Opacité pulmonaire",
        "Mass": "Masse pulmonaire",
        "Nodule": "Nodule pulmonaire",
        "Pleural_Thickening": "Épaississement pleural",
        "Pneumonia": "Pneumonie",
        "Pneumothorax": "Pneumothorax",
        "Tuberculosis": "Tuberculose pulmonaire",
    },
    priorities={
        Priority.CRITICAL: "CRITIQUE",
        Priority.URGENT: "URGENT",
        Priority.ROUTINE: "ROUTINE",
        Priority.NOT_ANALYSED: "NON ANALYSÉ",
    },
    refusals={
        RefusalCode.FILE_UNREADABLE: "le fichier est illisible",
        RefusalCode.NOT_RADIOGRAPH: "l’objet n’est pas une radiographie",
        RefusalCode.NO_PIXELS: "l’objet ne contient pas d’image",
        RefusalCode.FOR_PROCESSING: "l’image n’est pas traitée pour l’affichage",
        RefusalCode.DERIVED: "l’image est dérivée d’une autre",
        RefusalCode.MULTI_FRAME: "l’objet contient plusieurs images",
        RefusalCode.COLOUR: "l’image est en couleur",
        RefusalCode.TOO_SMALL: "l’image est trop petite",
        RefusalCode.TOO_LARGE: "l’image est trop grande",
        RefusalCode.TRANSFER_SYNTAX_UNSUPPORTED: "la compression de l’image n’est pas acceptée",
        RefusalCode.PIXELS_CORRUPT: "les données de l’image sont endommagées",
        RefusalCode.NO_CONTRAST: "l’image est sans contraste",
        RefusalCode.NOT_CHEST: "ce n’est pas un cliché du thorax",
        RefusalCode.NOT_FRONTAL: "ce n’est pas un cliché de face",
        RefusalCode.PAEDIATRIC: "patient enfant ; le modèle n’a pas été validé chez l’enfant",
        RefusalCode.ROTATED: "le cliché est tourné et n’a pas pu être redressé",
        RefusalCode.INVERTED_UNCERTAIN: "l’inversion du noir et du blanc est incertaine",
        RefusalCode.UNFAMILIAR: "l’image ressemble trop peu aux clichés dont le modèle a appris",
        RefusalCode.MODEL_UNAVAILABLE: "le modèle n’était pas disponible",
        RefusalCode.INTERNAL_ERROR: "le logiciel a échoué",
    },
    threshold="seuil",
    flagged="Signalé",
    case_flag="Cet examen a été signalé pour une lecture prioritaire.",
    no_case_flag="Cet examen n’a pas été signalé. Cela ne dit rien de ce que montrent les clichés.",
    not_analysed="Non analysé",
    withheld="Non évalué chez ce patient ou sur cette incidence",
    turns=("tournée de 90° à droite", "tournée de 180°", "tournée de 90° à gauche"),
    inverted="inversée",
    conjunction="et",
    corrected="Avant son analyse, l’image a été {}.",
    original_panel="L’image analysée",
    map_panel="Où le modèle a regardé",
    no_map="sans carte",
    more="et {} de plus, voir le compte rendu",
    percent="{}\N{NO-BREAK SPACE}%",
    ratio="Rapport cardiothoracique (CTR) {}",
    decimal_sign=",",
    ap_film="cliché AP : le cœur paraît plus gros",
)

_PHRASES = MappingProxyType(
    {
        Language.VIETNAMESE: _VIETNAMESE,
        Language.ENGLISH: _ENGLISH,
        Language.FRENCH: _FRENCH,
    }
)
