import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeedbackVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEEDBACK_VERDICT_UNSPECIFIED: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_JOINED: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_PENDING: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_DUPLICATE: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_CONFLICT: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_EXPIRED: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_UNKNOWN: _ClassVar[FeedbackVerdict]
    FEEDBACK_VERDICT_INVALID: _ClassVar[FeedbackVerdict]
FEEDBACK_VERDICT_UNSPECIFIED: FeedbackVerdict
FEEDBACK_VERDICT_JOINED: FeedbackVerdict
FEEDBACK_VERDICT_PENDING: FeedbackVerdict
FEEDBACK_VERDICT_DUPLICATE: FeedbackVerdict
FEEDBACK_VERDICT_CONFLICT: FeedbackVerdict
FEEDBACK_VERDICT_EXPIRED: FeedbackVerdict
FEEDBACK_VERDICT_UNKNOWN: FeedbackVerdict
FEEDBACK_VERDICT_INVALID: FeedbackVerdict

class SendFeedbackRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[FeedbackItem]
    def __init__(self, items: _Optional[_Iterable[_Union[FeedbackItem, _Mapping]]] = ...) -> None: ...

class SendFeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FeedbackResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FeedbackResult, _Mapping]]] = ...) -> None: ...

class StreamFeedbackRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[FeedbackItem]
    def __init__(self, items: _Optional[_Iterable[_Union[FeedbackItem, _Mapping]]] = ...) -> None: ...

class StreamFeedbackResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[FeedbackResult]
    def __init__(self, results: _Optional[_Iterable[_Union[FeedbackResult, _Mapping]]] = ...) -> None: ...

class FeedbackItem(_message.Message):
    __slots__ = ("prediction_id", "inference_id", "label", "value", "row", "source", "observed_at", "idempotency_key")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_ID_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_AT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    inference_id: str
    label: str
    value: float
    row: int
    source: str
    observed_at: _timestamp_pb2.Timestamp
    idempotency_key: str
    def __init__(self, prediction_id: _Optional[str] = ..., inference_id: _Optional[str] = ..., label: _Optional[str] = ..., value: _Optional[float] = ..., row: _Optional[int] = ..., source: _Optional[str] = ..., observed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class FeedbackResult(_message.Message):
    __slots__ = ("verdict", "detail")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    verdict: FeedbackVerdict
    detail: str
    def __init__(self, verdict: _Optional[_Union[FeedbackVerdict, str]] = ..., detail: _Optional[str] = ...) -> None: ...
