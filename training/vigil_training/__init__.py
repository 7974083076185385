"""How a model is made: from a manifest of labelled radiographs to a bundle that is served."""
