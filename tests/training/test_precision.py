import pytest
import torch

from mcis_cli.errors import UsageError
from mcis_cli.training import precision
from mcis_cli.training.precision import autocast, choose_device, choose_precision, cpu_has_bf16, describe_machine

CPU = torch.device("cpu")


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_processes_of_one_machine_take_its_cuda_devices_in_turn(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(choose_device(name, local)) for local in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert choose_device(name).index is None
    assert choose_device("cuda:0", 1) == torch.device("cuda:0")  # what is named is meant
    assert choose_device("cpu", 1) == CPU


def test_processes_of_a_machine_without_such_devices_share_its_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 1) == CPU


def test_a_device_that_is_not_there_is_refused_with_what_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0").index == 0
    with pytest.raises(UsageError, match=r"cuda:1 is not on this machine, found cpu, cuda:0.*--device auto"):
        choose_device("cuda:1")


def test_a_name_that_is_no_device_is_refused():
    with pytest.raises(UsageError, match="no device is called 'gpu'"):
        choose_device("gpu")


@pytest.mark.parametrize(("has", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_follows_the_cpu(monkeypatch, has, expected):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has)
    assert choose_precision("auto", CPU) == expected
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"


def test_a_device_of_another_kind_computes_in_float32():
    assert choose_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(
    ("found", "expected"),
    [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx512_f": True, "amx_bf16": False}, False)],
)
def test_a_cpu_has_bf16_where_it_has_amx_or_avx512_bf16(monkeypatch, found, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert cpu_has_bf16.__wrapped__() is expected


def test_the_flags_of_the_kernel_are_read_where_torch_cannot_tell(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: Some CPU\nflags\t\t: fpu avx512_bf16 amx_tile\n")
    assert precision._flags_have_bf16(cpuinfo)
    cpuinfo.write_text("flags\t\t: fpu avx512f\n")
    assert not precision._flags_have_bf16(cpuinfo)
    assert not precision._flags_have_bf16(tmp_path / "none")


@pytest.mark.parametrize(("setting", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_multiplies_in_the_precision(setting, dtype):
    a, b = torch.ones(2, 3), torch.ones(3, 4)
    with autocast(CPU, setting):
        assert (a @ b).dtype == dtype


def test_the_machine_is_described_in_plain_values():
    described = describe_machine(CPU, "fp32")
    assert described["device"] == "cpu"
    assert described["threads"] == torch.get_num_threads()
    assert all(isinstance(value, str | int) for value in described.values())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_described_and_has_a_precision():
    device = choose_device("cuda")
    assert choose_precision("auto", device) in ("fp32", "bf16")
    assert describe_machine(device, "fp32")["device_name"] == torch.cuda.get_device_name(device)
