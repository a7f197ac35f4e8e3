import subprocess
import sys

import pytest

STAND_IN = """
import importlib.machinery, sys, types

# An installed torchaudio whose extension does not load, as beside a torch without CUDA.
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ("torchaudio", "torchaudio._extension"):
            return importlib.machinery.ModuleSpec(name, self, is_package=name == "torchaudio")
    def create_module(self, spec):
        return types.ModuleType(spec.name)
    def exec_module(self, module):
        if module.__name__ == "torchaudio._extension":
            {failure}
            module._IS_TORCHAUDIO_EXT_AVAILABLE = True
        else:
            from torchaudio import _extension
            module.available = _extension._IS_TORCHAUDIO_EXT_AVAILABLE

sys.meta_path.insert(0, Finder())
import riffstream._torchaudio
import torchaudio
print(torchaudio.available)
"""


def run(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("failure", "available"), [("raise OSError('libcudart')", "False"), ("pass", "True")])
def test_extension_is_replaced_only_where_it_does_not_load(failure, available):
    done = run(STAND_IN.format(failure=failure))
    assert done.stdout.strip() == available, done.stderr


def test_missing_torchaudio_is_no_error():
    done = run(
        "import sys; sys.modules['torchaudio'] = None\n"
        "import riffstream._torchaudio as shim; print(shim.ensure_importable())"
    )
    assert done.stdout.strip() == "False", done.stderr
