"""An application entity: C-STORE, proved by C-FIND or by storage commitment.

One association is kept while there is something to do. It proposes everything that a delivery may
need; what the peer does not take costs nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, _config, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from vigil_inference.delivery.destinations import DicomDestination
from vigil_inference.delivery.ledger import Parcel
from vigil_inference.delivery.peers import Answer, Verdict, judge_dimse_status
from vigil_inference.dicom_responses import keep_responses

RESULT_CLASSES = (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    KeyObjectSelectionDocumentStorage,
)
RESULT_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
FIND_KEYS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
"""By which an object is looked for, at the level IMAGE."""
_SUCCESS = 0x0000
_PENDING = (0xFF00, 0xFF01)
_REQUEST_COMMITMENT = 1
"""Action type of a storage commitment request (PS3.4 J.3.2)."""
_NO_ANSWER = Answer(
    Verdict.LATER, "NO_ANSWER", "the destination closed the connection or took too long to answer"
)


class DicomPeer:
    """A destination that speaks DIMSE.

    Parameters
    ----------
    destination
        Its settings.
    calling_ae_title
        Ours, where the destination sets none.
    data_dir
        What the parcels' paths are relative to.
    note_commitment
        Remembers a transaction before it is asked for; False if the delivery is not ours any more.
    """

    def __init__(
        self,
        destination: DicomDestination,
        calling_ae_title: str,
        data_dir: Path,
        note_commitment: Callable[[Parcel, str], bool],
    ) -> None:
        self._destination = destination
        self._data_dir = data_dir
        self._note_commitment = note_commitment
        self._association: Association | None = None
        self._connection: Any = None
        self._message_id = 0
        self._ae = AE(destination.calling_ae_title or calling_ae_title)
        timeout = destination.timeout_seconds
        self._ae.connection_timeout = self._ae.acse_timeout = timeout
        self._ae.network_timeout = self._ae.dimse_timeout = timeout

    def send(self, parcel: Parcel) -> Answer:
        """Send an object by C-STORE (DICOM PS3.4 annex B), byte by byte as it is kept."""
        association = self._open()
        if isinstance(association, Answer):
            return association
        accepted = _accepted_syntaxes(association, parcel.sop_class_uid)
        if not accepted:
            reason = "the destination does not take this kind of object"
            return Answer(Verdict.REFUSED, "CONTEXT_REJECTED", reason)
        path = self._data_dir / parcel.file_path
        content: Path | Dataset = path
        if ExplicitVRLittleEndian not in accepted:
            content = dcmread(path)  # as a data set, pynetdicom encodes it as was agreed
        try:
            status = association.send_c_store(content, msg_id=self._next_message_id())
        except RuntimeError:  # the association ended between our look and our request
            return self._give_up(_NO_ANSWER)
        if "Status" not in status:
            return self._give_up(_NO_ANSWER)
        return judge_dimse_status(status.Status, str(status.get("ErrorComment", "")))

    def prove(self, parcel: Parcel) -> Answer:
        """Ask for storage commitment once, or whether a C-FIND finds the object."""
        association = self._open()
        if isinstance(association, Answer):
            return association
        if self._destination.proof == "storage-commitment" and not parcel.commitment_uid:
            return self._request_commitment(association, parcel)
        answer = self._find(association, parcel)
        if parcel.commitment_uid and answer.verdict is Verdict.NOT_HELD:
            reason = "no storage commitment came, and a C-FIND does not find the object"
            return Answer(Verdict.NOT_HELD, "NOT_COMMITTED", reason)
        return answer

    def close(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.release()
        self._close_connection()

    def _open(self) -> Association | Answer:
        if self._association is not None and self._association.is_established:
            return self._association
        self._give_up(_NO_ANSWER)
        _config.STORE_SEND_CHUNKED_DATASET = True
        destination = self._destination
        tls = destination.tls
        tls_args = None
        if tls is not None:
            try:
                tls_args = (tls.context(), tls.server_name or destination.host)
            except OSError as error:  # ssl.SSLError is one
                reason = f"our certificates cannot be used ({type(error).__name__})"
                return Answer(Verdict.LATER, "TLS_UNUSABLE", reason)
        association = self._ae.associate(
            destination.host,
            destination.port,
            self._contexts(),
            ae_title=destination.ae_title,
            tls_args=tls_args,
        )
        keep_responses(association)
        self._connection = getattr(association.dul.socket, "socket", None)
        if association.is_established:
            self._association = association
            return association
        if association.is_rejected:
            reason = f"the destination rejected the association{_why(association)}"
            return self._give_up(Answer(Verdict.LATER, "ASSOCIATION_REJECTED", reason))
        reason = "there is no association: no connection, no answer, or TLS was refused"
        return self._give_up(Answer(Verdict.LATER, "NO_CONNECTION", reason))

    def _contexts(self) -> list[Any]:
        # Apart, so that a peer may take both; all must be offered the default (PS3.5 10.1).
        contexts = [
            build_context(sop_class, syntax)
            for sop_class in RESULT_CLASSES
            for syntax in RESULT_SYNTAXES
        ]
        if self._destination.proof != "none":
            contexts.append(build_context(StudyRootQueryRetrieveInformationModelFind))
        if self._destination.proof == "storage-commitment":
            contexts.append(build_context(StorageCommitmentPushModel))
        return contexts

    def _find(self, association: Association, parcel: Parcel) -> Answer:
        """Look for the object at the level of images (DICOM PS3.4 C.6.2)."""
        model = StudyRootQueryRetrieveInformationModelFind
        if not _accepted_syntaxes(association, model):
            return Answer(
                Verdict.LATER, "PROOF_NOT_OFFERED", "the destination does not offer C-FIND"
            )
        query = Dataset()
        query.QueryRetrieveLevel = "IMAGE"
        uids = (parcel.study_instance_uid, parcel.series_instance_uid, parcel.sop_instance_uid)
        for keyword, value in zip(FIND_KEYS, uids, strict=True):
            setattr(query, keyword, value)
        found = False
        try:
            responses = association.send_c_find(query, model, msg_id=self._next_message_id())
            for status, identifier in responses:
                code = status.get("Status")
                if code in _PENDING:
                    uid = None if identifier is None else identifier.get("SOPInstanceUID")
                    found = found or uid == parcel.sop_instance_uid
                elif code == _SUCCESS:
                    return _found(found, "C_FIND")
                elif code is not None:
                    reason = f"the destination answered C-FIND with 0x{code:04X}"
                    return Answer(Verdict.LATER, f"C_FIND_{code:04X}", reason)
        except RuntimeError:
            pass
        return self._give_up(_NO_ANSWER)

    def _request_commitment(self, association: Association, parcel: Parcel) -> Answer:
        """Ask for storage commitment (DICOM PS3.4 J.3.2); the report comes to our own port."""
        model = StorageCommitmentPushModel
        if not _accepted_syntaxes(association, model):
            reason = "the destination does not offer storage commitment"
            return Answer(Verdict.LATER, "PROOF_NOT_OFFERED", reason)
        transaction_uid = str(generate_uid(prefix=None))
        if not self._note_commitment(parcel, transaction_uid):
            return Answer(Verdict.LATER, "NOT_OURS", "somebody else has decided meanwhile")
        item = Dataset()
        item.ReferencedSOPClassUID = parcel.sop_class_uid
        item.ReferencedSOPInstanceUID = parcel.sop_instance_uid
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = Sequence([item])
        try:
            status, _ = association.send_n_action(
                request,
                _REQUEST_COMMITMENT,
                model,
                StorageCommitmentPushModelInstance,
                msg_id=self._next_message_id(),
            )
        except RuntimeError:
            status = Dataset()
        code = status.get("Status")
        if code == _SUCCESS:
            reason = "the destination was asked to commit itself and will report"
            return Answer(Verdict.AWAITED, "COMMITMENT_ASKED", reason)
        self._note_commitment(parcel, "")
        if code is None:
            return self._give_up(_NO_ANSWER)
        reason = f"the destination answered the request for commitment with 0x{code:04X}"
        return Answer(Verdict.LATER, f"N_ACTION_{code:04X}", reason)

    def _give_up(self, answer: Answer) -> Answer:
        """Drop the association, so that the next step begins with a new one."""
        association, self._association = self._association, None
        if association is not None and association.is_established:
            association.abort()
        self._close_connection()
        return answer

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # pynetdicom leaves it open where the peer was lost

    def _next_message_id(self) -> int:
        self._message_id = self._message_id % 65535 + 1
        return self._message_id


def _accepted_syntaxes(association: Association, abstract_syntax: str) -> set[str]:
    return {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == abstract_syntax
    }


def _found(found: bool, how: str) -> Answer:
    if found:
        return Answer(Verdict.HELD, how, f"{how.replace('_', '-')} found it at the destination")
    reason = f"{how.replace('_', '-')} does not find it at the destination"
    return Answer(Verdict.NOT_HELD, f"{how}_EMPTY", reason)


def _why(association: Association) -> str:
    primitive = association.acceptor.primitive
    reason = getattr(primitive, "reason_str", "") if primitive is not None else ""
    return f": {reason}" if reason else ""
