"""Work on a zoo, in one process and in two."""

import pytest
import torch

pytest.importorskip("torchaudio")

from lightning_mi.examples.model_selection.parallel import work_through
from tests.helpers.model_selection import composed, makes_folders


@pytest.fixture
def config():
    return composed("zoo=small", f"threads={torch.get_num_threads()}")


@pytest.mark.parametrize("processes", [1, 2])
def test_every_item_is_worked_on_once(tmp_path, config, processes):
    config.processes = processes
    folders = [tmp_path / str(number) for number in range(5)]
    work_through(folders, makes_folders, config, unit="folder")
    assert all(folder.is_dir() for folder in folders)


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_is_not_lost(tmp_path, config, processes):
    config.processes = processes
    with pytest.raises(FileExistsError):
        work_through([tmp_path], makes_folders, config, unit="folder")


def test_no_process_is_an_error(config):
    config.processes = 0
    with pytest.raises(ValueError, match="processes=0: expected at least 1"):
        work_through([1], makes_folders, config, unit="number")


def test_processes_share_no_gpu(config):
    config.processes, config.accelerator = 2, "auto"
    with pytest.raises(ValueError, match="processes=2: expected 1 with accelerator=auto"):
        work_through([1], makes_folders, config, unit="number")
