"""What a model card says beside the figures: the data's terms, the limits, the uses."""

DATA = {
    "nih": (
        "NIH ChestX-ray14 (part), provided by the NIH Clinical Center; Wang et al., “ChestX-ray8”, "
        "CVPR 2017. Free to use. Labels were mined from reports by a program and are partly wrong; "
        "pneumonia is enriched in this part."
    ),
    "kermany": (
        "Kermany et al. 2018, “Labeled OCT and Chest X-Ray Images”, CC BY 4.0. Children of 1 to 5 "
        "years, one hospital in Guangzhou; had only at 224 pixels with the aspect ratio squashed."
    ),
    "shenzhen": (
        "Shenzhen tuberculosis set, US National Library of Medicine; Jaeger et al. 2014, Candemir "
        "et al. 2014."
    ),
    "montgomery": (
        "Montgomery County tuberculosis set, US National Library of Medicine; Jaeger et al. 2014, "
        "Candemir et al. 2014. Films carry a burnt-in marker and black margins."
    ),
    "wingspan": (
        "Dong et al. 2018, cardiothoracic ratio set, MIT. Cardiomegaly is derived from the ratio "
        "(0.55 or more; below 0.50 negative), not read."
    ),
}
GATE_DATA = (
    "Pictures that are no chest film: FracAtlas, X-ray sets of spine, infant pelvis and shoulder "
    "implants, MedNIST hands and CT (B. J. Erickson, Mayo Clinic; CC BY-SA 4.0), breast ultrasound "
    "(BUSI), CT (COVID-19-NY-SBU), sample DICOM files, photographs and generated documents. One "
    "source a class: a high score here proves little."
)
LIMITS = """\
- Research use only. Not a medical device. It must not replace, delay or shorten anybody's reading.
- Probabilities are calibrated to the validation patients' mix, in which disease is far more
  frequent than in a screening programme or an emergency room. At another hospital they are ranks
  until a site calibration is made.
- The same validation patients chose {chosen}the calibration and the thresholds, and give the
  figures above: but for what is called cross-fitted, these are optimistic. Patients of another
  hospital will do worse.
- One threshold and one calibration serve all sources of a finding: where the table shows another
  sensitivity or calibration error for each, no hospital may expect either.
- The gate's other pictures are split by picture, for most name no patient: some CT patients are on
  both sides.
- The gate refuses pictures under 128 pixels before the network sees them (most hands and CT here),
  so those rows say nothing of the network.
- A part of the NIH patients is on that set's official test list: no figure here compares with
  published ChestX-ray14 results.
- Labels of the NIH set come from reports; a radiologist would disagree with many.
- Tuberculosis: two sets, internal validation on both; not a trial, not an estimate for any country.
- No human lateral chest films could be had: for them the header decides; the picture check is
  untested.
- Inverted and turned films for the gate were made from good ones.
- Children between 6 and 14 years have no finding: nothing here was learnt from them.
- No output for COVID-19: the only set holds no negatives.
- The heat map shows where the score comes from, not where the disease is; how far it lies from a
  radiologist's marks stands under Heat maps, or was not measured.
- The uncertain band holds its promise for patients like these only. Where disease is rarer or the
  films differ, nothing is promised.
- Parts of the patients (sex, age, view) stand here only where they are large enough; no part was
  told apart by device, and none of the other parts was validated.
"""
INTENDED_USE = """\
- Ordering a worklist in research and development, with a radiologist reading every picture.
- Comparing networks, thresholds and ways of training on open data.
"""
PROHIBITED_USES = """\
- To diagnose, to rule out a disease, or to tell a patient anything.
- To leave a film unread, to read it later than it would have been, or to shorten a reading: what
  is not flagged is not normal, and what was not analysed is not quiet.
- To screen a population for tuberculosis or anything else: no threshold here was chosen for one.
- On lateral films, on other parts of the body, on CT, or on photographs of films.
- On ages for which no finding was validated (see the ages below), as if silence meant health.
- To decide on insurance, employment, travel or asylum.
- In clinical use anywhere, until it is validated there and approved as the law of the place asks.
"""
