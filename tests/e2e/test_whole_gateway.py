"""The life of a model over the real ports, with every way to run a gateway."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Running
from tiny import classifier, scaler

from gateway.client import AdminClient, Client, Feedback, NotFound, NotPermitted, RuleForbids, Verdict

ROW = np.array([[1.0, 2.0]], np.float32)
WAYS = {"workers": (2, "fast"), "standard": (1, "standard"), "one-process": (0, "fast")}


@pytest.fixture(scope="module", params=WAYS.values(), ids=WAYS.keys())
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    workers, lane = request.param
    running = Running(tmp_path_factory.mktemp("way") / "home", "--lane", lane, workers=workers)
    yield running
    assert running.stop() == 0, running.tail()
    running.end()


@pytest.fixture
def admin(served: Running) -> Iterator[AdminClient]:
    with AdminClient(served.admin) as client:
        yield client


@pytest.fixture
def client(served: Running) -> Iterator[Client]:
    with Client(served.data, channels=4) as made:
        yield made


def _factor(client: Client, model: str, **options: str) -> tuple[str, float]:
    """The version that an answer names, and the one that its numbers betray."""
    answer = client.infer(model, ROW, **options)
    return answer.version, float(answer["y"][0, 0])


def test_a_model_is_registered_deployed_promoted_and_rolled_back(admin: AdminClient, client: Client, tmp_path: Path) -> None:
    for factor in (1.0, 2.0):
        admin.register("life", scaler(tmp_path / "m.onnx", factor)).result()
    admin.deploy("life", 1).result()
    assert _factor(client, "life") == ("1", 1.0)
    admin.promote("life", 2).result()
    assert _factor(client, "life") == ("2", 2.0)
    assert _factor(client, "life", version="1") == ("1", 1.0)
    admin.rollback("life").result()
    assert _factor(client, "life") == ("1", 1.0)


def test_a_split_serves_both_and_keeps_a_unit_where_it_is(admin: AdminClient, client: Client, tmp_path: Path) -> None:
    for factor in (1.0, 2.0):
        admin.register("split", scaler(tmp_path / "m.onnx", factor)).result()
    admin.deploy("split", 1).result()
    admin.split("split", {"1": 50, "2": 50}).result()
    seen = {unit: {_factor(client, "split", unit_id=unit) for _ in range(4)} for unit in map(str, range(40))}
    assert all(len(answers) == 1 for answers in seen.values())
    assert {version for answers in seen.values() for version, _ in answers} == {"1", "2"}
    assert all(factor == float(version) for answers in seen.values() for version, factor in answers)


def test_an_alias_works_as_a_version_and_an_unknown_one_is_not_found(
    admin: AdminClient, client: Client, tmp_path: Path
) -> None:
    admin.register("alias", scaler(tmp_path / "m.onnx", 3.0), alias="champion").result()
    admin.deploy("alias", "champion").result()
    assert _factor(client, "alias", version="champion") == ("1", 3.0)
    with pytest.raises(NotFound, match="stranger"):
        client.infer("alias", ROW, version="stranger")


def test_an_incompatible_version_is_refused_unless_forced(admin: AdminClient, client: Client, tmp_path: Path) -> None:
    admin.register("shape", scaler(tmp_path / "m.onnx", 1.0)).result()
    admin.register("shape", scaler(tmp_path / "m.onnx", 2.0, name="other")).result()
    admin.deploy("shape", 1).result()
    with pytest.raises(RuleForbids, match="force"):
        admin.promote("shape", 2).result()
    assert _factor(client, "shape") == ("1", 1.0)
    admin.promote("shape", 2, force=True).result()
    assert client.infer("shape", {"other": ROW}).version == "2"


def test_ground_truth_becomes_live_quality(
    served: Running, admin: AdminClient, client: Client, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    admin.register("truth", classifier(tmp_path / "m.onnx"), prediction=("label", "label")).result()
    admin.deploy("truth", 1).result()
    answers = [client.infer("truth", np.eye(3, dtype=np.float32)[[index % 3]]) for index in range(30)]
    items = [Feedback(prediction_id=answer.prediction_id, label=index % 3) for index, answer in enumerate(answers)]
    items[0] = Feedback(prediction_id=answers[0].prediction_id, label=2)  # it said 0
    first = client.send_feedback(items)
    assert {result.verdict for result in first} <= {Verdict.JOINED, Verdict.PENDING}

    def joined() -> bool:
        return [row.labelled for row in admin.quality("truth").versions] == [30]

    wait_for(joined, what="30 labelled predictions")
    (row,) = admin.quality("truth").versions
    assert row.accuracy == pytest.approx(29 / 30)
    assert {result.verdict for result in client.send_feedback(items)} == {Verdict.DUPLICATE}
    page = urllib.request.urlopen(f"http://{served.http}/metrics", timeout=10).read().decode()
    assert 'interlock_requests_total{arm="default",code="OK",model="truth",version="1"} 30.0' in page


def test_a_shadow_is_compared_and_never_answers(
    served: Running, admin: AdminClient, client: Client, tmp_path: Path, wait_for: Callable[..., object]
) -> None:
    for factor in (1.0, 2.0):
        admin.register("shadow", scaler(tmp_path / "m.onnx", factor)).result()
    admin.deploy("shadow", 1).result()
    admin.shadow("shadow", 2).result()
    assert {_factor(client, "shadow") for _ in range(20)} == {("1", 1.0)}
    page = f"http://{served.http}/metrics"

    def compared() -> bool:
        text = urllib.request.urlopen(page, timeout=10).read().decode()
        return 'interlock_shadow_compared_total{model="shadow",primary="1",version="2"} 20.0' in text

    wait_for(compared, what="20 compared shadow answers")


def test_load_and_unload_on_the_data_port_need_the_option(client: Client) -> None:
    from gateway.protocol.messages import inference

    with client._channels.next() as channel, pytest.raises(NotPermitted, match="--model-control"):
        channel.call(channel.inference.RepositoryModelLoad, inference.RepositoryModelLoadRequest(model_name="x"), timeout_s=10)


def test_health_pages_say_what_is(served: Running) -> None:
    for page in ("live", "ready"):
        with urllib.request.urlopen(f"http://{served.http}/health/{page}", timeout=10) as answer:
            assert json.load(answer)["status"] == page
