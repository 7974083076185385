import pytest
from pynetdicom import AE, Association
from pynetdicom.association import MODE_REQUESTOR
from pynetdicom.dimse_primitives import C_STORE, N_EVENT_REPORT

from vigil_inference.dicom_responses import keep_responses


@pytest.fixture
def association() -> Association:
    association = Association(AE(), MODE_REQUESTOR)
    keep_responses(association)
    return association


def test_the_association_s_own_thread_leaves_a_response_to_the_sender(association: Association):
    response = C_STORE()
    response.MessageIDBeingRespondedTo = 7
    association.dimse.msg_queue.put((1, response))
    assert association.dimse.get_msg(block=False) == (None, None)
    assert association.dimse.get_msg(block=True) == (1, response)


def test_a_request_of_the_peer_s_is_taken(association: Association):
    request = N_EVENT_REPORT()
    request.MessageID = 3
    association.dimse.msg_queue.put((1, request))
    assert association.dimse.get_msg(block=False) == (1, request)


def test_what_ends_the_wait_of_a_sender_is_left_to_it(association: Association):
    # So says pynetdicom that the association was aborted.
    association.dimse.msg_queue.put((None, None))
    assert association.dimse.get_msg(block=False) == (None, None)
    assert association.dimse.get_msg(block=True) == (None, None)


def test_without_a_message_there_is_none(association: Association):
    assert association.dimse.get_msg(block=False) == (None, None)
