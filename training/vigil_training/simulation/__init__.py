"""How much sooner would the sick have been read? A reading room, simulated film by film.

::

    scenario     what is simulated: arrivals, readers, conditions, variants; read from TOML
    operation    what Vigil says of a film: a bundle's operating points, or its answers on films
    films        the films of one replication, drawn
    room         the reading room as a discrete-event simulation (SimPy): when is each film read?
    queueing     what theory says of the waiting where it has a closed form
    run          replications, side by side under each order
    outcome      what comes out, as figures with intervals
    drawing      the same as a picture

Every order meets the same films and the same reading times, so that differences are differences of
the order alone.
"""
