"""Peak rates of the GPUs that can be named, and what share of a peak is assumed to be reached."""

from __future__ import annotations

from dataclasses import dataclass

from constraintlang_runtime.errors import ConfigError

GPUS_PER_NODE = 8
NETWORK_BANDWIDTH = 50e9  # bytes/s a GPU has to other machines: one 400 Gb/s port each, as in a DGX H100


@dataclass(frozen=True)
class Gpu:
    """Dense peaks: FLOP/s in bf16 (tensor cores) and fp32, bytes/s of memory, bytes of it, bytes/s to a neighbour."""

    name: str
    bf16: float
    fp32: float
    bandwidth: float
    memory: float
    link: float


# NVIDIA's data sheets; tensor-core rates there are with sparsity and halved here. fp32 is that of the CUDA cores,
# because torch does not use TF32 unless told. `link` is one direction: half of NVLink's figure, or PCIe 4.0 x16.
# H200, H100: SXM5 data sheets (1,979 TFLOPS bf16 sparse, 67 fp32, 141 / 80 GB, 4.8 / 3.35 TB/s, NVLink 900 GB/s).
# A100: 80 GB SXM4 data sheet (312 dense, 19.5 fp32, 2.039 TB/s, NVLink 600 GB/s).
# L40S: data sheet (733 sparse, 91.6 fp32, 48 GB, 864 GB/s). RTX 4090: Ada architecture white paper, appendix A
# (165.2 dense bf16 with fp32 accumulation, 82.6 fp32, 24 GB, 1,008 GB/s).
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h200", 989.5e12, 67e12, 4.8e12, 141e9, 450e9),
        Gpu("h100", 989.5e12, 67e12, 3.35e12, 80e9, 450e9),
        Gpu("a100", 312e12, 19.5e12, 2.039e12, 80e9, 300e9),
        Gpu("l40s", 366.5e12, 91.6e12, 0.864e12, 48e9, 32e9),
        Gpu("rtx4090", 165.2e12, 82.6e12, 1.008e12, 24e9, 32e9),
    )
}


@dataclass(frozen=True)
class Range:
    """A value at its worst and at its best."""

    worst: float
    best: float


@dataclass(frozen=True)
class Machine:
    """One device, how many of it, and the shares of its peaks that are assumed.

    ``flops`` and ``bandwidth`` are peaks per device; ``compute`` and ``memory_share`` the shares reached; ``launch``
    the seconds that one layer costs whatever its size; ``host`` the FLOP/s at which the auxiliary model is fitted.
    """

    name: str
    devices: int
    flops: float
    bandwidth: float
    memory: float
    link: float
    compute: Range
    memory_share: Range
    launch: Range
    host: Range
    source: str


# Large training runs reach 46% of the peak (PaLM, arXiv 2204.02311, table 3) and 44-52% (Megatron, arXiv 2104.04473);
# fine-tuning with padding and eager kernels is below that.
GPU_COMPUTE = Range(0.25, 0.5)
GPU_MEMORY_SHARE = Range(0.4, 0.8)
GPU_LAUNCH = Range(1.5e-3, 0.25e-3)  # eager kernels, per layer and pass; a small batch is bound by it
GPU_HOST = Range(0.2e12, 1e12)  # fp32 of a server's CPU: the fit runs there
CPU_COMPUTE = Range(0.4, 0.9)  # of the measured product of two large matrices
CPU_MEMORY_SHARE = Range(0.4, 0.9)  # of the measured copy
CPU_LAUNCH = Range(1e-3, 0.1e-3)


def named_gpu(name: str, devices: int, *, bf16: bool) -> Machine:
    """``devices`` GPUs of the table.

    Raises: ConfigError for a name that is not in it.
    """
    gpu = GPUS.get(name)
    if gpu is None:
        raise ConfigError(
            f"got {name!r}, expected one of {', '.join(GPUS)}, cpu",
            help="name the nearest one",
            parameter="gpu",
        )
    link = gpu.link if devices <= GPUS_PER_NODE else NETWORK_BANDWIDTH
    return Machine(
        gpu.name, devices, gpu.bf16 if bf16 else gpu.fp32, gpu.bandwidth, gpu.memory, link,
        GPU_COMPUTE, GPU_MEMORY_SHARE, GPU_LAUNCH, GPU_HOST, "data sheet",
    )  # fmt: skip
