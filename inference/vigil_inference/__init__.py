"""How a model is reached: DICOM and HTTP in, results and a live worklist out."""
