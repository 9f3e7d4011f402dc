from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.contract.traces import TraceContext
from gateway.telemetry.trace_sampling import Exporters, Sampling, exporters_of, parse_traceparent, sampling_of

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEX = "0123456789abcdef"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        VALID.upper(),
        VALID + "-more",
        VALID + "\n",
        " " + VALID,
        VALID[:-1],
        "ff" + VALID[2:],
        VALID.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        VALID.replace("b7ad6b7169203331", "0" * 16),
        VALID.replace("-", "_"),
        "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01",
        VALID * 1000,
    ],
)
def test_a_malformed_header_is_ignored(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_later_version_may_carry_more() -> None:
    assert parse_traceparent("01" + VALID[2:] + "-more") == parse_traceparent(VALID)
    assert parse_traceparent("01" + VALID[2:] + "more") is None


def test_only_the_sampled_bit_of_the_flags_decides() -> None:
    for flags, is_sampled in (("00", False), ("01", True), ("02", False), ("03", True)):
        context = parse_traceparent(VALID[:-2] + flags)
        assert context is not None
        assert context.is_sampled is is_sampled


def text(length: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=length, max_size=length)


@given(st.sampled_from(("00", "01", "cc", "ff")), text(32), text(16), text(2))
def test_headers_are_read_as_opentelemetry_reads_them(version: str, trace: str, span: str, flags: str) -> None:
    header = f"{version}-{trace}-{span}-{flags}"
    theirs = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header})).get_span_context()
    ours = parse_traceparent(header)
    if theirs.is_valid:
        assert ours == TraceContext(f"{theirs.trace_id:032x}", theirs.span_id, int(theirs.trace_flags))
    else:
        assert ours is None


@given(st.integers(1, 2**128 - 1), st.floats(0, 1))
def test_a_ratio_over_trace_ids_decides_as_opentelemetry_does(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(None, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE
    assert Sampling(ratio, is_parent_based=False).takes(TraceContext(f"{trace_id:032x}", 1, 0), 0.5) is theirs


def test_the_standard_samplers_are_known() -> None:
    assert sampling_of("always_on", "") == Sampling(1.0, False)
    assert sampling_of("parentbased_always_off", "0.5") == Sampling(0.0, True)
    assert sampling_of("parentbased_traceidratio", "") == Sampling(1.0, True)
    assert sampling_of("traceidratio", "0.1") == Sampling(0.1, False)


@pytest.mark.parametrize(
    ("name", "argument"), [("xray", ""), ("traceidratio", "many"), ("traceidratio", "2"), ("traceidratio", "nan")]
)
def test_a_wrong_sampler_names_the_variable(name: str, argument: str) -> None:
    with pytest.raises(ValueError, match=r"OTEL_TRACES_SAMPLER(_ARG)?: got"):
        sampling_of(name, argument)


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_a_ratio_is_a_share(ratio: float) -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        Sampling(ratio)


COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environ", "kinds"),
    [
        ({}, ()),
        (COLLECTOR, ("otlp-grpc",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"}, ("otlp-grpc",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ()),
        ({"OTEL_TRACES_EXPORTER": " console "}, ("console",)),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"}, ()),
        ({**COLLECTOR, "OTEL_TRACES_EXPORTER": "otlp, console,otlp"}, ("otlp-grpc", "console")),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_PROTOCOL": "x"}, ("otlp-grpc",)),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ("otlp-http",)),
        ({**COLLECTOR, "OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "console"}, ()),
    ],
)
def test_the_standard_variables_say_where_traces_go(environ: dict[str, str], kinds: tuple[str, ...]) -> None:
    assert exporters_of(environ) == Exporters(kinds)


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: got 'zipkin'"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_PROTOCOL: got 'http/json'"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: got 'http/json'"),
    ],
)
def test_what_is_not_built_in_is_named_with_the_variable_that_asks_for_it(environ: dict[str, str], problem: str) -> None:
    found = exporters_of({**COLLECTOR, **environ})
    assert found.kinds == ()
    assert [text.partition(", expected")[0] for text in found.problems] == [problem]


def test_the_known_exporters_of_a_list_are_used_beside_an_unknown_one() -> None:
    found = exporters_of({"OTEL_TRACES_EXPORTER": "zipkin,console"})
    assert (found.kinds, len(found.problems)) == (("console",), 1)
