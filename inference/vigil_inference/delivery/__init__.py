"""Results go back: built once a study is quiet, kept, and sent until the destination holds them.

=====================  =============================================================================
Module                 What it holds
=====================  =============================================================================
``destinations``       where results may go, as settings
``rules``              which of a study's results go where, and why
``release``            building a quiet study's results, once, and keeping their bytes
``states``             the states of a delivery
``tables``             result sets, result objects and deliveries in the database
``ledger``             every step that workers take between the states
``desk``               what people see of deliveries, and decide
``dispatch``           one thread a destination, which takes the steps
``peers``              what can be asked of any destination, and how an answer is judged
``dicom_peer``         C-STORE, proved by C-FIND or storage commitment
``commitment``         the door for a destination's storage commitment reports
``dicomweb_peer``      STOW-RS, proved by QIDO-RS
``folder_peer``        files in a folder, proved by reading them back
``webhook``            a signed JSON message a study
``api``, ``cli``       for people and programs
=====================  =============================================================================

The states and the way between them are drawn in ``docs/delivery.md``.
"""
