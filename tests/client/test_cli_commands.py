"""Every form of the command line against a gateway: what is sent, what is printed where, and the exit code."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from rich.console import Console

from gateway.cli import main
from gateway.cli.commands import COMMANDS
from gateway.cli.configuring import settings
from gateway.cli.tables import status_view
from gateway.protocol.messages import admin


@pytest.fixture
def model_file(tmp_path):
    """y = x + w, with w in a file beside it; and a file that is none of the model's business."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4], np.ones(4, np.float32).tobytes(), raw=True)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        initializer=[weights],
    )
    path = tmp_path / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(made, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "notes.txt").write_text("not the model's")
    return path


def test_register_sends_the_examples_fitted_to_the_model(run, gateway, model_file, tmp_path):
    (tmp_path / "a.json").write_text("[[1, 2, 3, 4]]")  # whole numbers, which the model takes as FP32
    np.savez(tmp_path / "b.npz", x=np.ones((2, 4), np.float64))
    files = ["--example", tmp_path / "a.json", "--example", tmp_path / "b.npz"]
    assert run("register", "digits", model_file, *files).code == 0
    first, second = gateway.examples["digits"]
    assert (first.name, second.name) == ("a.json", "b.npz")
    assert [(t.name, t.datatype, list(t.shape)) for t in second.inputs] == [("x", "FP32", [2, 4])]
    assert np.frombuffer(first.inputs[0].contents, np.float32).tolist() == [1, 2, 3, 4]
    assert run("versions", "digits", "--json").json[0]["example_count"] == 2
    assert "examples" in run("versions", "digits").out


def test_an_example_that_does_not_fit_is_told_before_anything_is_sent(run, gateway, model_file, tmp_path):
    (tmp_path / "a.json").write_text('{"z": [[1, 2, 3, 4]]}')
    done = run("register", "digits", model_file, "--example", tmp_path / "a.json")
    assert done.code == 1
    assert "a.json: model.onnx has no input 'z'; it takes x FP32 [?, 4]" in done.err
    assert gateway.uploads == {}


def test_validate_runs_the_examples_too(run, model_file, tmp_path):
    (tmp_path / "a.json").write_text("[[1, 2, 3, 4]]")
    assert run("validate", model_file, "--example", tmp_path / "a.json", "--json").json["valid"]
    done = run("validate", model_file, *["--example", tmp_path / "a.json"] * 17)
    assert (done.code, done.err) == (1, "error: examples: expected at most 16, got more\n")


def test_register_prints_the_version_as_text(run, model_file):
    done = run("register", "digits", model_file, "--alias", "champion", "--json")
    assert (done.code, done.err) == (0, "")
    assert (done.json["model"], done.json["version"], done.json["aliases"]) == ("digits", "1", ["champion"])
    assert [step["name"] for step in done.json["operation"]["steps"]] == ["received", "registered"]


def test_a_file_is_sent_with_the_external_data_it_refers_to_and_nothing_else(run, gateway, model_file):
    assert run("register", "digits", model_file).code == 0
    header, files, _ = gateway.uploads["digits"]
    assert header.model_file == "model.onnx"
    assert files == {name: (model_file.parent / name).read_bytes() for name in ("model.onnx", "weights.bin")}


def test_a_folder_is_sent_whole(run, gateway, model_file):
    assert run("register", "digits", model_file.parent).code == 0
    header, files, _ = gateway.uploads["digits"]
    assert header.model_file == "model.onnx"
    assert sorted(files) == ["model.onnx", "notes.txt", "weights.bin"]


def test_large_files_go_in_pieces_of_one_mebibyte(run, gateway, model_file):
    (model_file.parent / "big.bin").write_bytes(bytes(5 << 19))
    assert run("register", "digits", model_file.parent).code == 0
    assert gateway.uploads["digits"][2][:3] == [1 << 20, 1 << 20, 1 << 19]


def test_registering_tells_tags_lineage_and_the_prediction(run, gateway, model_file):
    what = "--tag a=b --tag c=d=e --prediction out:0:scores --class cat --class dog"
    whence = "--run-id r1 --commit abc --dataset d1 --parent v2 --reason better"
    assert run("register", "digits", model_file, *what.split(), *whence.split()).code == 0
    header = gateway.uploads["digits"][0]
    assert dict(header.tags) == {"a": "b", "c": "d=e"}
    assert (header.prediction.output, header.prediction.kind, list(header.prediction.classes)) == (
        "out:0",
        "scores",
        ["cat", "dog"],
    )
    assert (header.lineage.run_id, header.lineage.parent_version, header.reason) == ("r1", 2, "better")
    assert header.author


def test_what_is_no_model_is_refused_before_anything_is_sent(run, gateway, tmp_path):
    text = tmp_path / "text.onnx"
    text.write_text("hello, I am not a model")
    done = run("register", "digits", text)
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert "text.onnx" in done.err
    assert gateway.uploads == {}


@pytest.mark.parametrize(("make", "text"), [((), "found none"), (("a.onnx", "b.onnx"), "found a.onnx, b.onnx")])
def test_a_folder_must_leave_no_doubt_which_file_is_the_model(run, tmp_path, make, text):
    for name in make:
        (tmp_path / name).write_bytes(b"")
    done = run("register", "digits", tmp_path)
    assert done.code == 1
    assert text in done.err


@pytest.mark.parametrize(
    ("arguments", "rpc", "sent"),
    [
        ("deploy echo 2", "Deploy", {"version": "2", "force": False}),
        ("deploy echo 3 --force --reason r --etag e", "Deploy", {"version": "3", "force": True, "reason": "r", "etag": "e"}),
        ("promote echo champion", "Promote", {"version": "champion"}),
        ("shadow echo 2 --percent 12.5", "SetShadow", {"version": "2", "percent": 12.5}),
        ("shadow echo --off", "SetShadow", {"version": ""}),
        ("alias echo champion 2", "SetAlias", {"alias": "champion", "version": "2"}),
        ("alias echo champion --delete", "DeleteAlias", {"alias": "champion"}),
        ("undeploy echo", "Undeploy", {"model": "echo"}),
        ("configure echo --rollback-window 10m", "Configure", {"rollback_window_s": 600.0}),
    ],
)
def test_a_write_sends_what_it_says(run, gateway, arguments, rpc, sent):
    gateway.add_versions("echo", 3)
    gateway.aliases["echo"]["champion"] = 1
    done = run(*arguments.split(), "--json")
    assert (done.code, done.err) == (0, "")
    request = gateway.requests[rpc][0]
    assert {field: getattr(request, field) for field in sent} == sent
    assert request.author
    assert isinstance(done.json, dict)


def test_a_split_sends_percents_by_version(run, gateway):
    gateway.add_versions("echo", 2)
    done = run("split", "echo", "1=70", "2=30%")
    assert done.code == 0
    assert "version 1 70 %, version 2 30 %" in done.out
    assert [(w.version, w.percent) for w in gateway.requests["SetSplit"][0].weights] == [("1", 70), ("2", 30)]


def test_rollback_needs_no_version_and_tells_what_is_served_now(run, gateway):
    gateway.add_versions("echo", 2)
    run("deploy", "echo", "1")
    run("promote", "echo", "2")
    done = run("rollback", "echo", "--json")
    assert (done.json["default_version"], done.json["revision"]) == ("1", 3)
    assert done.json["operation"]["duration_ms"] >= 0


def test_configure_keeps_the_settings_that_are_not_given(run, gateway):
    gateway.add_versions("echo", 1)
    run("deploy", "echo", "1")
    assert run("configure", "echo", "--queue-delay-us", "250").code == 0
    request = gateway.requests["Configure"][0]
    assert (request.batching.mode, request.batching.max_rows, request.batching.queue_delay_us) == ("auto", 64, 250)
    assert request.etag == "r1"  # what was read is what is changed


def test_configure_sends_every_setting(run, gateway):
    gateway.add_versions("echo", 1)
    run("deploy", "echo", "1")
    options = "--batching on --max-rows 32 --preferred-rows 8,16 --max-waiting 9 --queue-target-us 0 --adaptive-limit"
    assert run("configure", "echo", *options.split(), "--swap-order", "memory").code == 0
    request = gateway.requests["Configure"][0]
    assert request.batching == admin.Batching(
        mode="on",
        max_rows=32,
        preferred_rows=admin.PreferredRows(rows=(8, 16)),
        max_waiting=9,
        queue_target_us=0,
        adaptive_limit=True,
    )
    assert request.swap_order == "memory"


def test_no_preferred_rows_and_no_limit_are_said_too(run, gateway):
    gateway.add_versions("echo", 1)
    run("deploy", "echo", "1")
    assert run("configure", "echo", "--preferred-rows", "none", "--no-adaptive-limit").code == 0
    batching = gateway.requests["Configure"][0].batching
    assert (batching.HasField("preferred_rows"), list(batching.preferred_rows.rows)) == (True, [])
    assert (batching.HasField("adaptive_limit"), batching.adaptive_limit) == (True, False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--swap-order both", "--swap-order: expected availability, memory, got 'both'"),
        ("--preferred-rows 8;16", "--preferred-rows: expected numbers with commas between them, or none, got '8;16'"),
        ("--batching maybe", "--batching: expected auto, on, off, got 'maybe'"),
        ("", "nothing to change"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_a_wrong_command(run, options, told):
    done = run("configure", "echo", *options.split())
    assert (done.code, told in done.err) == (2, True)


def test_status_shows_the_settings_that_are_not_built_in(run, gateway):
    gateway.add_versions("echo", 1)
    run("deploy", "echo", "1")
    run("configure", "echo", "--preferred-rows", "8,16", "--max-waiting", "9")
    assert "preferred-rows 8,16, max-waiting 9" in run("status").out


def test_settings_in_words_are_those_that_are_not_built_in():
    usual = admin.Batching(mode="auto", max_rows=64, max_waiting=1024, queue_target_us=5000)
    assert settings(admin.Deployment(batching=usual, rollback_window_s=3600, swap_order="availability")) == ""
    older = admin.Batching(mode="auto", max_rows=64)  # of a gateway that does not know the others
    assert settings(admin.Deployment(batching=older, rollback_window_s=3600)) == ""
    other = admin.Batching(mode="off", max_rows=64, max_waiting=9, queue_target_us=0, adaptive_limit=True)
    other.preferred_rows.rows.extend((8, 16))
    assert settings(admin.Deployment(batching=other, rollback_window_s=60, swap_order="memory")) == (
        "batching off, preferred-rows 8,16, max-waiting 9, queue-target-us 0, adaptive-limit on, rollback-window 60s, "
        "swap-order memory"
    )


def test_a_refusal_is_one_line_and_with_json_an_object_too(run, gateway):
    gateway.add_versions("echo", 3)
    done = run("deploy", "echo", "3", "--json")
    assert done.code == 1
    assert done.err == "error: output 'y' is gone: callers would break (use force to override)\n"
    error = done.json["error"]
    assert (error["code"], error["reason"], error["metadata"]) == ("FAILED_PRECONDITION", "RULE_FORBIDS", {"rule": "signature"})


def test_what_has_not_acknowledged_is_said(run, gateway):
    gateway.add_versions("echo", 1)
    done = run("deploy", "echo", "1", "--reason", "half", "--json")
    assert (done.code, done.err) == (0, "warning: worker 1 is restarting and will catch up\n")
    assert done.json["operation"]["missing"] == ["worker 1 is restarting and will catch up"]


@pytest.mark.parametrize("command", ["models", "versions echo", "history echo", "audit", "audit echo", "operations"])
def test_lists_are_tables_or_one_json_list(run, gateway, command):
    gateway.add_versions("echo", 2)
    run("deploy", "echo", "1")
    assert run(*command.split()).out.count("\n") > 3
    assert isinstance(run(*command.split(), "--json").json, list)


def test_a_list_of_many_pages_is_whole(run, gateway):
    for name in ("a", "b", "c"):
        gateway.add_versions(name, 1)
    assert [model["name"] for model in run("models", "--json").json] == ["a", "b", "c"]


def test_status_shows_workers_and_versions(run, gateway):
    gateway.add_versions("echo", 1)
    run("deploy", "echo", "1")
    shown = run("status").out
    assert "2/2 workers serving" in shown
    assert "echo: version 1, revision 1" in shown
    status = run("status", "echo", "--json").json
    assert status["models"][0]["versions"][0]["version"] == "1"
    assert gateway.requests["GetStatus"][-1].model == "echo"


def test_tables_fit_a_hundred_columns(run, gateway, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    gateway.add_versions("echo", 2)
    run("deploy", "echo", "1")
    for command in ("status", "versions echo", "history echo", "audit", "operations", "quality echo --confusion"):
        assert max(len(line) for line in run(*command.split()).out.splitlines()) <= 100


def test_quality_takes_a_window_and_shows_confusion(run, gateway):
    done = run("quality", "echo", "--window", "1h", "--confusion")
    assert "0.5000" in done.out
    assert "3 (75 %)" in done.out
    assert gateway.requests["GetQuality"][0].window_s == 3600
    assert run("quality", "echo", "--json").json["versions"][0]["mae"] is None


def test_feedback_sends_one_item_and_tells_its_verdict(run, gateway):
    assert run("feedback", "--prediction-id", "p1", "--label", "7").out == "1 JOINED\n"
    item = gateway.requests["SendFeedback"][0].items[0]
    assert (item.prediction_id, item.label) == ("p1", "7")


def test_feedback_from_a_file_tells_every_verdict_and_fails_on_invalid_items(run, tmp_path):
    file = tmp_path / "items.jsonl"
    file.write_text(
        '{"prediction_id": "p1", "label": 3}\n\n{"inference_id": "a", "value": 1}\n{"prediction_id": "bad", "label": 1}\n'
    )
    done = run("feedback", "--file", file, "--json")
    assert done.code == 1
    assert done.json["verdicts"] == {"JOINED": 2, "INVALID": 1}
    assert len(done.json["results"]) == 3


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", "not JSON"),
        ("[1]", "expected a JSON object"),
        ('{"lable": 1}', "unknown field 'lable'"),
        ('{"label": 1}', "prediction_id or"),
    ],
)
def test_a_wrong_line_of_feedback_is_named(run, gateway, tmp_path, line, text):
    file = tmp_path / "items.jsonl"
    file.write_text('{"prediction_id": "p1", "label": 3}\n' + line + "\n")
    done = run("feedback", "--file", file)
    assert done.code == 1
    assert "items.jsonl:2: " in done.err
    assert text in done.err
    assert not gateway.requests["StreamFeedback"]


def test_no_admin_says_so_and_what_to_do(gateway, run):
    gateway.stop()
    done = run("status", "--json")
    assert done.code == 1
    remedy = "start one with `interlock serve`, or name it with --admin"
    assert done.err == f"error: no gateway answers at {gateway.address} (connection refused): {remedy}\n"
    assert done.json["error"]["reason"] == "UNREACHABLE"


@pytest.mark.parametrize(
    "arguments",
    [
        "nope",
        "deploy echo",
        "split echo 1=70",
        "split echo 1=70 1=30",
        "split echo 1:70",
        "shadow echo",
        "shadow echo 1 --off",
        "shadow echo 1 --percent 101",
        "alias echo name",
        "configure echo",
        "configure echo --batching sometimes",
        "configure echo --rollback-window long",
        "register m p --tag novalue",
        "status --watch --json",
        "quality echo --window soon",
        "feedback",
        "feedback --file x --label 1",
        "predict echo",
    ],
)
def test_wrong_use_exits_with_two_and_one_line(run, gateway, arguments):
    done = run(*arguments.split())
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert ("error" in done.json) if "--json" in arguments else done.out == ""
    assert not gateway.requests


def test_wrong_use_with_json_prints_an_object_too(run):
    assert run("deploy", "echo", "--json").json["error"]["code"] == "USAGE"


def test_help_of_every_command_says_what_it_does(capsys):
    for command in COMMANDS:
        assert main([command.name, "--help"]) == 0
        assert f"Usage: interlock {command.name} " in capsys.readouterr().out


def test_the_list_of_commands_says_what_each_command_says_of_itself():
    """The list is shown without loading the commands: each summary begins the command's docstring."""
    for command in COMMANDS:
        assert " ".join((command.load().__doc__ or "").split()).startswith(command.summary.rstrip("."))


def test_completion_of_models_is_quick_and_silent_without_a_gateway(gateway, run, monkeypatch):
    from gateway.cli.options import _models

    gateway.add_versions("echo", 1)
    assert _models("e") == ["echo"]
    assert _models("x") == []
    gateway.stop()
    assert _models("e") == []


def test_json_is_one_line_for_programs(run, gateway):
    gateway.add_versions("echo", 1)
    out = run("models", "--json").out
    assert out.count("\n") == 1
    assert json.loads(out)


def test_steps_are_shown_to_whoever_watches(run, gateway, monkeypatch, model_file):
    screen = io.StringIO()
    monkeypatch.setattr("gateway.cli.gateway_session.stderr", lambda: Console(file=screen, force_terminal=True, width=100))
    assert run("register", "digits", model_file).code == 0
    shown = screen.getvalue()
    assert shown.index("received") < shown.index("registered")


def test_watching_outlives_the_gateway_and_ends_with_ctrl_c(run, gateway, monkeypatch):
    seen = []

    def sleep(_):
        seen.append(1)
        if len(seen) == 2:
            gateway.stop()
        elif len(seen) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("gateway.cli.observe.time.sleep", sleep)
    done = run("status", "--watch")
    assert (done.code, done.err) == (0, "")
    assert "2/2 workers serving" in done.out
    assert "no gateway answers" in done.out


def test_unfence_tells_which_versions_take_calls_again(run, gateway):
    gateway.add_versions("echo", 2)
    assert run("unfence", "echo", "2", "--reason", "fixed").out == "echo v2 takes calls again\n"
    request = gateway.requests["Unfence"][-1]
    assert (request.model, request.version, request.reason) == ("echo", "2", "fixed")
    assert run("unfence", "echo", "--json").json == {"model": "echo", "versions": []}
    assert run("unfence", "echo").out == "no version of echo is fenced\n"


def test_status_shows_where_a_crashing_version_runs_and_until_when_it_is_fenced():
    version = admin.VersionStatus(version=2, state="READY", deaths=4, isolation="process: it has ended a worker")
    version.fenced_until.FromSeconds(1_800_000_000)
    worker = admin.WorkerStatus(worker=1, state="serving", last_death="SIGFPE, 1 request of ratio v2")
    status = admin.Status(workers=[worker], models=[admin.ModelStatus(model="ratio", versions=[version])])
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(status_view(status, "head"))
    text = console.export_text()
    assert "worker 1 died last of SIGFPE, 1 request of ratio v2" in text
    assert "process: it has ended a worker, fenced until" in text
