"""What a bundle's heat maps are worth, measured through the served code.

``measure``           every question of a manifest's films: ``measure_heat_maps``
``figures``           what was measured, and how the model card says it
``film_maps``         maps of films, laid over each other
``organs``            against lungs and hearts
``boxes``             against a radiologist's boxes
``shuffles``          against another film and shuffled weights
``shuffled_weights``  the served graph with its weights shuffled
"""
