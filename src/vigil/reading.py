"""From a file of any kind to a radiograph, whole or no larger than is needed.

Which pixels a file's scores were made from depends on the file and the bundle alone: whoever needs
more of a picture reads it again instead of having it judged at another size.
"""

from pathlib import Path

from vigil.dicom import describe, open_dicom, to_radiograph
from vigil.errors import ImageRefused, RefusalCode
from vigil.gate import check_header
from vigil.image_file import image_format, read_image
from vigil.radiograph import LeastSide, Radiograph


def read_radiograph(
    path: Path, *, for_processing: bool = False, least: LeastSide | None = None
) -> Radiograph:
    """Read a DICOM, PNG or JPEG file, refusing by its header before a pixel is decoded.

    Parameters
    ----------
    path
        The file.
    for_processing
        Whether DX for processing is let in, see :func:`vigil.gate.check_header`.
    least
        How small a DICOM picture may come; None is whole.

    Raises
    ------
    ImageRefused
        With the code of what stood in the way.
    """
    try:
        file_format = image_format(path)
    except OSError as error:
        reason = f"the file cannot be read ({error.strerror or type(error).__name__})"
        raise ImageRefused(RefusalCode.FILE_UNREADABLE, reason) from error
    if file_format is not None:
        radiograph = read_image(path, file_format)
        check_header(radiograph.description)
        return radiograph
    dataset = open_dicom(path)
    description = describe(dataset)
    check_header(description, for_processing=for_processing)
    return to_radiograph(dataset, description, path, least)


def read_again(path: Path, radiograph: Radiograph, least: LeastSide | None = None) -> Radiograph:
    """Return a picture at another size, turned and inverted as it was before.

    Parameters
    ----------
    path
        The file that it was read from.
    radiograph
        The picture as it was analysed.
    least
        How small it may come; None is whole. A picture that is large enough comes back as it is.

    Raises
    ------
    ImageRefused
        If the file cannot be read any more, or not at this size: only now are the details decoded
        that the network did not need.
    """
    sampling = radiograph.sampling
    if sampling is None:
        return radiograph
    enough = None
    if least is not None:
        enough = least.low_pass if sampling.low_pass else least.averaged
    if enough is not None and max(radiograph.pixels.shape) >= enough:
        return radiograph
    dataset = open_dicom(path)
    again = to_radiograph(dataset, describe(dataset), path, least)
    return again.corrected(radiograph.quarter_turns, invert=radiograph.inverted, note="")
