"""Which bundle serves this site: candidates in shadow, promotion, and the way back.

==============  ====================================================================================
Module          What it holds
==============  ====================================================================================
``stages``      the stages, and which moves there are between them
``tables``      the database's tables
``record``      the site's record: what is at which stage, and every change of it
``shelf``       bundles on disk, by digest, so that a way back is never gone
``desk``        shadow, promote, rollback, withdraw: what must hold before, and the change
``keeper``      a node follows the record
``queue``       the pictures that the bundle in shadow still has to read
``shadow``      reads them, when no picture waits for the bundle that serves
``reader``      the process in which the bundle in shadow runs
``pairs``       pictures that two bundles read
``comparison``  what the pairs say, as ``comparison_views`` words it
``page``        the comparison as a page
``figures``     how far shadow work is
``views``       what the interface says
``api``         for programs
``cli``         for people
==============  ====================================================================================
"""
