import pytest
import torch

from mcis_cli.training.transfer import sent

CPU = torch.device("cpu")


def test_on_the_cpu_a_tensor_is_itself_but_for_the_order_of_its_memory():
    images = torch.rand(2, 3, 4, 5)
    assert sent(images, CPU) is images
    placed = sent(images, CPU, memory_format=torch.channels_last)
    assert placed.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed, images)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("memory_format", [torch.preserve_format, torch.channels_last])
def test_what_is_sent_to_a_cuda_device_arrives_there(memory_format):
    images = torch.rand(2, 3, 40, 50)
    placed = sent(images, torch.device("cuda"), memory_format=memory_format)
    expected = images.clone()
    images.zero_()  # no earlier than it has been copied from
    assert placed.is_cuda
    assert torch.equal(placed.cpu(), expected)
