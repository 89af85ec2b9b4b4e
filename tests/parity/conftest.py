"""What the comparisons with the reference share. Nothing of theirs is imported before a test asks for it."""

import pytest

from third_party.huggingface.parity.cases import CASES


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """Directories of models, written once."""
    from third_party.huggingface.parity import theirs

    directories = {}

    def directory(name):
        if name not in directories:
            directories[name] = tmp_path_factory.mktemp("model")
            theirs.write_model(CASES[name], directories[name])
        return directories[name]

    return directory


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models are tiny: PyTorch's threads would only wait for each other."""
    import torch

    torch.set_num_threads(1)
