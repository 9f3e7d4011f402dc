"""Commands about what is registered: register, validate, alias, models, versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.example_files import ExampleOption, example_values, read_examples
from gateway.cli.gateway_session import ProgressDisplay, connected, finish
from gateway.cli.options import DEFAULT_ADMIN, Admin, AsJson, Etag, Model, Reason, number_of_version
from gateway.cli.output import print_json, size, stdout

if TYPE_CHECKING:
    from gateway.protocol.messages import admin

PREDICTION_KINDS = ("label", "scores", "value")
Source = Annotated[Path, typer.Argument(metavar="PATH", help="An .onnx file, or a folder with one.", show_default=False)]
PredictionOption = Annotated[
    str | None,
    typer.Option(metavar="OUTPUT[:KIND]", help="Which output is the prediction, and whether it is label, scores or value."),
]
ClassOption = Annotated[list[str] | None, typer.Option("--class", metavar="NAME", help="Name of a class, in their order.")]


def register(
    model: Model,
    path: Source,
    tag: Annotated[list[str] | None, typer.Option(metavar="K=V", help="A tag; may be given many times.")] = None,
    alias: Annotated[str, typer.Option(metavar="NAME", help="Point this alias at the new version.")] = "",
    prediction: PredictionOption = None,
    classes: ClassOption = None,
    run_id: Annotated[str, typer.Option(metavar="ID", help="Lineage: the training run.")] = "",
    commit: Annotated[str, typer.Option(metavar="SHA", help="Lineage: the source commit.")] = "",
    dataset: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Lineage: a data set; may be repeated.")] = None,
    example: ExampleOption = None,
    parent: Annotated[
        int, typer.Option(metavar="N", parser=number_of_version, help="Lineage: the version it was derived from.")
    ] = 0,
    reason: Reason = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Upload a model as the next version. It does not serve yet."""
    tags = parse_tags(tag or [])
    with connected(admin) as client:
        from gateway.client import Lineage
        from gateway.client.upload import Upload

        progress = ProgressDisplay()
        updates = client.register(
            model,
            path,
            tags=tags,
            alias=alias,
            prediction=parse_prediction(prediction),
            classes=classes or (),
            examples=read_examples(example, Upload.of(path)) if example else (),
            lineage=Lineage(run_id, commit, tuple(dataset or ()), parent),
            reason=reason,
            progress=progress.sent,
        )
        finish(updates, as_json=as_json, done=_registered, resource="version", progress=progress)


def validate(
    path: Source,
    prediction: PredictionOption = None,
    classes: ClassOption = None,
    example: ExampleOption = None,
    as_json: AsJson = False,
) -> None:
    """Check a model on this machine, as registration would, without a gateway. Reads and runs it."""
    from gateway.client.upload import Upload
    from gateway.runtime.trial import trial
    from registry.batching import batching_state
    from registry.deployment import Batching
    from registry.onnx_file import read_model
    from registry.versions import Prediction, PredictionKind
    from registry.zip_maps import served_as

    upload = Upload.of(path)
    file = upload.root / upload.model_file
    maps = read_model(file, follows_links=True).score_maps
    wanted = parse_prediction(prediction)
    told = None
    if wanted is not None:
        if not wanted[1]:
            raise typer.BadParameter(f"--prediction: say the kind too, e.g. {wanted[0]}:label")
        told = Prediction(wanted[0], PredictionKind(wanted[1]), tuple(classes or ()))
    examples = example_values(read_examples(example, upload))
    with upload.without_links() as plain:
        facts = trial(plain.root / plain.model_file, prediction=told, examples=examples)
    found = facts.prediction
    if as_json:
        print_json(_facts_json(file, facts))
        return
    console = stdout()
    console.print(f"[green]valid[/] {file} ({size(upload.size_bytes())})")
    for title, specs in (("inputs", facts.signature.inputs), ("outputs", facts.signature.outputs)):
        for spec in specs:
            console.print(f"  {title:8} {spec}", markup=False)
    for one in maps:
        console.print(f"  {served_as(one)}", markup=False)
    console.print(
        f"  predicts {f'{found.output} ({found.kind})' if found else 'not known: name it with --prediction'}", markup=False
    )
    console.print(f"  batching {batching_state(Batching(), facts)}", markup=False)
    for names in facts.batched_inputs:
        console.print(f"           also with {', '.join(names)}", markup=False)


def alias(
    model: Model,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The alias, e.g. champion.", show_default=False)],
    version: Annotated[str | None, typer.Argument(metavar="VERSION", help='A number, an alias, or "latest".')] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    reason: Reason = "",
    etag: Etag = "",
    admin: Admin = DEFAULT_ADMIN,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version, or remove it. An alias can stand wherever a version can."""
    if delete == (version is not None):
        raise typer.BadParameter("give a VERSION, or --delete")
    with connected(admin) as client:
        if version is None:
            result = client.delete_alias(model, name, etag=etag, reason=reason)
            text = f"{model}: alias {name} removed"
        else:
            result = client.set_alias(model, name, version, etag=etag, reason=reason)
            text = f"{model}: {name} is version {result.aliases.get(name, version)}"
    if as_json:
        print_json(_json(result))
    else:
        stdout().print(text, markup=False)


def models(admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """List the registered models."""
    with connected(admin) as client:
        found = client.models()
    if as_json:
        print_json([_json(model) for model in found])
        return
    from gateway.cli.tables import models_table

    stdout().print(models_table(found))


def versions(model: Model, admin: Admin = DEFAULT_ADMIN, as_json: AsJson = False) -> None:
    """List the versions of a model."""
    with connected(admin) as client:
        found = client.versions(model)
    if as_json:
        print_json([_json(version) for version in found])
        return
    from gateway.cli.tables import versions_table

    stdout().print(versions_table(found))


def parse_tags(texts: list[str]) -> dict[str, str]:
    """Reads tags from texts like K=V. Raises a usage error that names the text."""
    tags = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise typer.BadParameter(f"--tag: expected K=V, got {text!r}")
        tags[key] = value
    return tags


def parse_prediction(text: str | None) -> tuple[str, str] | None:
    """Reads (output, kind) from OUTPUT[:KIND]; without a kind it is "". Names of outputs may have colons themselves."""
    if not text:
        return None
    output, _, kind = text.rpartition(":")
    return (output, kind) if output and kind in PREDICTION_KINDS else (text, "")


def _registered(operation: admin.Operation) -> str:
    from rich.markup import escape

    version = operation.version
    named = f" ({', '.join(version.aliases)})" if version.aliases else ""
    facts = f"{size(version.size_bytes)}, {version.digest[:12]}"
    maps = "".join(f"\n  {escape(step.detail)}" for step in operation.steps if step.name == "score maps")
    return f"{version.model} version {version.version}{named} registered  [dim]{facts}[/]{maps}"


def _json(message: Any) -> dict[str, Any]:
    from gateway.protocol.messages import as_json

    return as_json(message)


def _facts_json(file: Path, facts: Any) -> dict[str, Any]:
    def specs(tensors: Any) -> list[dict[str, Any]]:
        return [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "optional": t.is_optional} for t in tensors]

    told = facts.prediction
    return {
        "valid": True,
        "path": str(file),
        "signature": {"inputs": specs(facts.signature.inputs), "outputs": specs(facts.signature.outputs)},
        "prediction": told and {"output": told.output, "kind": str(told.kind), "classes": list(told.classes)},
        "batchable": facts.is_batchable,
        "batching_reason": facts.batching_reason,
        "row_proof": str(facts.row_proof),
        "batched_inputs": [list(names) for names in facts.batched_inputs],
    }
