import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread():
    """Compute in one thread: batches here are too small to share, and waiting costs more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
