"""For those who run the service: how it stands, its metrics, its backup.

=================  =================================================================================
Module             What it holds
=================  =================================================================================
``opening``        the service while it opens, so that `/ready` can say why it is not yet there
``stopping``       an end in bounded time
``figures``        what the database says of queues, answers and deliveries
``metrics``        the same and more in Prometheus' form, at `/metrics`
``metric_names``   each metric's name, type, labels and meaning
``status``         one document of all that an administrator asks first
``judgement``      whether a status needs somebody's attention
``api``, ``cli``   for programs and for people
``backup``         the embedded store into one file
``restore``        and back
=================  =================================================================================
"""
