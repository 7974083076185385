"""The served network in 8-bit integers, accepted only if nothing is lost.

::

    search   blocks back into floating point until the patients are judged as before: `quantize`
    films    which pictures calibrate, and which accept or refuse
    graph    any blocks of a graph in integers
    measure  both networks on the same films
    figures  what was measured, what may be lost, and how the model card says it
"""
