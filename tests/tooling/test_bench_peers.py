from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from gateway.protocol.messages import inference
from loadtests.bench.scenarios.path import LANE
from loadtests.bench.servers import ServerFailed
from loadtests.peers import environments, native, report
from loadtests.peers.__main__ import is_busy, options, results
from loadtests.peers.catalogue import KSERVE, MLSERVER, PEERS, PYTRITON, Peer, Setting
from loadtests.peers.counts import sample_sum
from loadtests.peers.environments import HERE, InstallFailed
from loadtests.peers.measure import Plan, Sample
from loadtests.peers.peer import PeerServer, free_ports
from loadtests.peers.probe import Expected, differs
from loadtests.peers.processes import CpuWindow, Watched, cpu_s, stop_tree
from loadtests.peers.publish import BEGIN, END, NotPublished, check_marks, filled, publish

ROOT = Path(__file__).parents[2]
STREAMS = (1, 32)
EXPECTED = Expected(np.zeros((1, 64), np.float32), np.array([7]), np.full((1, 10), 0.1, np.float32))
FAMILIES = {"Interlock": "Interlock", LANE: LANE, "MLServer, plain": "MLServer", "MLServer, batching, 1 ms": "MLServer"}


def _samples(*rates: float) -> dict[int, list[Sample]]:
    """Medians at one stream and at 32."""
    return {
        m: [Sample(rate * factor, 1e6 / rate) for factor in (0.5, 1.0, 3.0)] for m, rate in zip(STREAMS, rates, strict=True)
    }


SAMPLES = {
    "Interlock": _samples(4000, 30_000),
    LANE: _samples(8000, 40_000),
    "MLServer, plain": _samples(1000, 1500),
    "MLServer, batching, 1 ms": _samples(500, 2000),
}
TABLE = report.rows(SAMPLES, FAMILIES)


def test_a_peer_counts_with_its_best_setting_at_each_number_of_streams() -> None:
    row = TABLE["MLServer"]
    assert (row[1].rate, row[1].setting) == (1000, "plain")
    assert (row[32].rate, row[32].setting) == (2000, "batching, 1 ms")
    assert report.best_settings(TABLE) == ["MLServer: 1 stream: plain; 32 streams: batching, 1 ms"]


def test_ratios_are_interlocks_rate_over_each_others() -> None:
    assert report.ratios(TABLE) == {LANE: {1: 0.5, 32: 0.75}, "MLServer": {1: 4.0, 32: 15.0}}


def test_latency_follows_from_streams_and_rate() -> None:
    assert TABLE["MLServer"][1].latency_ms(1) == 1.0
    assert TABLE["MLServer"][32].latency_ms(32) == 16.0


def test_goals_are_judged_at_32_and_128_streams_and_by_latency_at_one() -> None:
    goals = report.goals(TABLE, {LANE: 0.8, "MLServer": 13.0})
    assert [(goal.value, goal.is_reached) for goal in goals] == [(0.75, False), (15.0, True), (0.25, True)]
    assert "of MLServer's mean latency" in goals[-1].text


def test_without_mlserver_or_one_stream_there_is_no_latency_goal() -> None:
    alone = {name: {32: row[32]} for name, row in TABLE.items()}
    assert [goal.wanted for goal in report.goals(alone, {LANE: 0.8})] == [0.8]


def test_the_section_for_the_readme_tells_rates_cpu_ratios_latency_and_versions() -> None:
    machine = {"machine": "a machine", "python": "3.11", "grpcio": "1", "onnxruntime": "2", "pinned": "not pinned"}
    text = report.markdown(TABLE, {"MLServer": "1.7.1"}, machine, "docs/bench-peers.png")
    assert text.startswith("![")
    assert "| MLServer | 1,000 | 2,000 |" in text
    assert "| Interlock | 250 | 33 |" in text
    assert "| MLServer | 4.00 | 15.00 |" in text
    assert "MLServer 1.00 ms" in text
    assert "MLServer 1.7.1; of a peer's settings" in text


def test_the_result_holds_every_sample_and_what_the_plot_reads() -> None:
    result = results(Plan(STREAMS, 3, 1.0), [MLSERVER], SAMPLES, FAMILIES, {"MLServer": "1.7.1"})
    result = json.loads(json.dumps(result))
    assert [sample["rate"] for sample in result["samples"]["Interlock"]["32"]] == [15_000, 30_000, 90_000]
    panels = re.findall(r'\("(\w+)", "', (HERE / "plot" / "plot.py").read_text())
    assert panels == ["rate", "cpu_us"]
    assert all(cell[key] > 0 for row in result["table"].values() for cell in row.values() for key in panels)


@pytest.mark.parametrize("key", [*PEERS, "plot"])
def test_what_an_environment_installs_is_pinned_with_hashes(key: str) -> None:
    text = (HERE / key / "requirements.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert [entry.splitlines()[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
    wanted = (HERE / key / "requirements.in").read_text().split()
    assert [line for line in wanted if not any(entry.startswith(line) for entry in entries)] == []
    assert "://" not in text


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.key)
def test_a_peers_program_takes_its_settings_and_stays_on_loopback(peer: Peer) -> None:
    text = (HERE / peer.key / "serve.py").read_text()
    ast.parse(text)
    given = {word for setting in peer.settings for word in setting.options if word.startswith("--")}
    taken = set(re.findall(r'add_argument\("(--[a-z-]+)"', text))
    assert given | {"--model", "--name", "--port", "--http-port", "--metrics-port"} <= taken
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text


@pytest.mark.parametrize("peer", [MLSERVER, KSERVE, PYTRITON], ids=lambda peer: peer.key)
def test_all_run_the_same_onnx_runtime(peer: Peer) -> None:
    assert "onnxruntime==1.32.0" in (HERE / peer.key / "requirements.in").read_text()


def test_the_options_choose_peers_streams_and_target() -> None:
    given = options(["--only", "kserve", "--streams", "8", "--seconds", "0.5", "--repetitions", "1", "--json", "here.json"])
    assert (given.only, given.streams, given.seconds, given.repetitions) == (["kserve"], [8], 0.5, 1)
    assert given.json == Path("here.json")
    with pytest.raises(SystemExit):
        options(["--only", "tensorflow"])


def test_a_busy_machine_is_told() -> None:
    assert is_busy(float(os.cpu_count() or 1))
    assert not is_busy(0.0)


def _answer(label: int, *, raw: bool = True) -> inference.ModelInferResponse:
    answer = inference.ModelInferResponse(model_name="digits")
    for name, kind, shape in (("label", "INT64", [1, 1]), ("probabilities", "FP32", [1, 10])):
        answer.outputs.add(name=name, datatype=kind, shape=shape)
    if raw:
        answer.raw_output_contents.append(np.array([label], np.int64).tobytes())
        answer.raw_output_contents.append(EXPECTED.probabilities.tobytes())
    else:
        answer.outputs[0].contents.int64_contents.append(label)
        answer.outputs[1].contents.fp32_contents.extend(EXPECTED.probabilities[0])
    return answer


@pytest.mark.parametrize("raw", [True, False])
def test_an_answer_is_compared_raw_or_typed(raw: bool) -> None:
    assert differs(_answer(7, raw=raw), EXPECTED, 0) is None
    assert "label [3]" in str(differs(_answer(3, raw=raw), EXPECTED, 0))


def test_an_answer_without_its_outputs_is_wrong() -> None:
    assert "expected label and probabilities" in str(differs(inference.ModelInferResponse(), EXPECTED, 0))


def test_a_prometheus_count_is_summed_over_the_models_samples() -> None:
    page = '# HELP a b\nseen_total{model="digits",version="1"} 3.0\nseen_total{model="digits"} 4.0\nseen_total{model="x"} 9\n'
    assert sample_sum(page, "seen_total", 'model="digits"') == 7


PEER = replace(MLSERVER, key="fake", name="Fake", count=lambda ports, model: 0)


def _start(tmp_path: Path, program: str) -> PeerServer:
    serve = tmp_path / "serve.py"
    serve.write_text(program)
    return PeerServer(
        PEER, Setting("plain"), tmp_path / "model.onnx", tmp_path, python=Path(sys.executable), expected=EXPECTED, pin=(),
        env={}, serve=serve, start_timeout_s=1.0,
    )  # fmt: skip


def test_a_peer_that_ends_at_its_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"(?s)Fake, plain ended by itself.*port 80 is taken"):
        _start(tmp_path, "raise SystemExit('port 80 is taken')")


def test_a_peer_that_never_answers_is_told_and_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    with pytest.raises(ServerFailed, match="did not answer within 1 s"):
        _start(tmp_path, f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    assert not note.exists() or not psutil.pid_exists(int(note.read_text()))


def test_ending_a_peer_ends_what_it_started_in_other_sessions_too() -> None:
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    program = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=-1, start_new_session=True); "
        "p.stdout.readline(); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        stop_tree(process)
        assert process.returncode is not None
    assert not psutil.pid_exists(started)


BURN = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True); input()"


def test_cpu_time_is_that_of_the_whole_tree_less_what_is_left_out() -> None:
    program = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {BURN!r}]); print(p.pid, flush=True); p.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.stdout.readline()
        assert cpu_s([process.pid]) - cpu_s([process.pid], without=[child]) >= 0.15
        assert cpu_s([process.pid, child]) == cpu_s([process.pid])
        stop_tree(process)
    assert cpu_s([child]) == 0


def test_a_cpu_window_is_left_at_once_when_the_load_fails() -> None:
    window = CpuWindow(Watched((os.getpid(),)), 600.0, 600.0)
    with pytest.raises(RuntimeError), window:
        raise RuntimeError
    assert window.window_s == 0


def test_free_ports_differ() -> None:
    ports = free_ports()
    assert len({ports.grpc, ports.http, ports.metrics}) == 3


FAKE_PYTHON = """#!/bin/sh
case "$2" in
venv) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
pip) if grep -q broken "$8"; then echo "no such package"; exit 1; fi ;;
esac
"""


@pytest.fixture
def ensure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Makes the environment that the given pins ask for, with a Python that only seems to; what was said meanwhile."""
    python = tmp_path / "python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    def make(pins: str) -> list[str]:
        (tmp_path / "tiny").mkdir(exist_ok=True)
        (tmp_path / "tiny" / "requirements.txt").write_text(pins)
        said: list[str] = []
        assert environments.ensure("tiny", said.append, folder=tmp_path / "made", source=tmp_path).exists()
        return said

    return make


def test_an_environment_is_made_once_and_anew_for_other_pins(ensure: Callable[[str], list[str]]) -> None:
    assert [len(ensure(pins)) for pins in ("a==1", "a==1", "a==2", "a==2")] == [1, 0, 1, 0]


def test_a_broken_off_installation_counts_for_none(ensure: Callable[[str], list[str]]) -> None:
    for _ in range(2):
        with pytest.raises(InstallFailed, match=r"(?s)pip install .*requirements.txt\nended with code 1.*no such package"):
            ensure("broken==1")


def test_a_failed_installation_tells_the_command_and_its_last_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('\\n'.join(map(str, range(100)))); raise SystemExit('no such package')"]
    with pytest.raises(InstallFailed, match=r"(?s)-c .*\nended with code 1; its last lines:.*99\nno such package") as failure:
        environments.run(command)
    assert "\n50\n" not in str(failure.value)
    with pytest.raises(InstallFailed, match="could not be run"):
        environments.run([str(tmp_path / "nothing")])


def test_a_missing_system_library_is_named(tmp_path: Path) -> None:
    assert native.not_found("\tlibb64.so.0d => not found\n\tlibm.so.6 => /lib/libm.so.6 (0x00)\n") == ["libb64.so.0d"]
    with pytest.raises(InstallFailed, match="ships no tritonserver for this Python"):
        native.check(tmp_path / "tritonserver", {})
    assert "apt-get install libpython3.11," in native.missing_libpython("libpython3.11.so.1.0", tmp_path)


def test_libpython_is_looked_for_beside_this_python_and_in_its_architectures_folder(tmp_path: Path) -> None:
    name = "libpython3.11.so.1.0"
    assert native.libpython(tmp_path, "x86_64-linux-gnu", name) is None
    (tmp_path / "x86_64-linux-gnu").mkdir()
    (tmp_path / "x86_64-linux-gnu" / name).touch()
    assert native.libpython(tmp_path, "x86_64-linux-gnu", name) == tmp_path / "x86_64-linux-gnu"


def test_the_readme_has_a_place_for_the_table_and_only_that_is_replaced() -> None:
    check_marks()
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert filled(page, "new\n") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(NotPublished, match="lacks the marks"):
        filled("a page", "new")


def test_a_plot_that_cannot_be_drawn_leaves_the_figures(tmp_path: Path) -> None:
    plotter = tmp_path / "python"
    plotter.write_text("#!/bin/sh\necho no matplotlib; exit 1\n")
    plotter.chmod(0o755)
    target = tmp_path / "out" / "bench-peers.json"
    with pytest.raises(InstallFailed, match="no matplotlib"):
        publish({"markdown": "a table\n"}, target, plotter, is_for_readers=False)
    assert target.exists()
    assert target.with_suffix(".md").read_text() == "a table\n"


def test_publishing_puts_table_and_plot_into_the_docs(tmp_path: Path) -> None:
    plotter = tmp_path / "python"
    plotter.write_text('#!/bin/sh\necho drawn > "$3"\n')
    plotter.chmod(0o755)
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    publish({"markdown": "a table\n"}, tmp_path / "out.json", plotter, is_for_readers=True, root=tmp_path)
    assert (tmp_path / "README.md").read_text() == f"{BEGIN}\na table\n{END}\n"
    assert (tmp_path / "docs" / "bench-peers.png").read_text() == "drawn\n"


def test_a_missing_h2load_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadtests.peers"], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "h2load is not installed" in done.stdout
