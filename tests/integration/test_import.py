"""What importing the package costs its user."""

import subprocess
import sys

import lightning_mi

HEAVY = (
    "torchaudio",
    "hydra",
    "omegaconf",
    "transformers",
    "matplotlib",
    "sklearn",
    "soundfile",
    "espeakng_loader",
)


def test_neither_torchaudio_nor_hydra_is_imported():
    """Also where they cannot be imported at all; what the dependencies import of themselves is theirs."""
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torchaudio", "hydra", "omegaconf"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import lightning.pytorch, torchmetrics, faiss
before = set(sys.modules)
import lightning_mi
new = {{name.split(".")[0] for name in set(sys.modules) - before}}
print(sorted(new & set({HEAVY!r})))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"


def test_public_names_are_documented():
    assert set(lightning_mi.__all__) == {
        "LabeledMIBound",
        "MIBound",
        "MIBoundCallback",
        "MIEstimate",
        "Waveforms",
        "__version__",
        "labeled_mi_bound",
        "mi_bound",
    }
    for name in set(lightning_mi.__all__) - {"Waveforms", "__version__"}:
        text = getattr(lightning_mi, name).__doc__
        assert ">>>" in text, name
        assert "nats" in text, name


def test_the_users_own_faiss_stays_as_it_is():
    """faiss.contrib.torch_utils patches faiss itself; on the host nothing needs it, neither the import nor a bound."""
    code = """
import numpy as np, tempfile
import lightning_mi, faiss, torch
z = torch.randn(200, 4)
lightning_mi.mi_bound(z, z, 4)
path = tempfile.mkdtemp() + "/x.npy"
np.save(path, np.eye(4, dtype="float32"))
index = faiss.IndexFlatL2(4)
index.add(np.load(path, mmap_mode="r"))
print(index.ntotal, type(index.reconstruct(1)).__name__)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["4", "ndarray"]
