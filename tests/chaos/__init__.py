"""Proofs under fire: ``make chaos`` runs them in full, the suite a short run of each."""
