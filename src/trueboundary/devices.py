"""Whether a device is there, said in one sentence before anything is computed on it."""

from __future__ import annotations

import torch

from trueboundary.plurals import plural


def check_device(device: torch.device | str) -> torch.device:
    """Return `device` if torch can draw and compute on it here, or raise.

    Raises
    ------
    TypeError
        If it is no device and no name of one.
    ValueError
        If torch knows no such device, or this machine has none.

    Examples
    --------
    >>> check_device("cpu")
    device(type='cpu')
    >>> check_device("tpu")
    Traceback (most recent call last):
        ...
    ValueError: there is no device 'tpu': use cpu, cuda or cuda:0, cuda:1, ...
    """
    if not isinstance(device, (torch.device, str)):
        raise TypeError(
            f"device must be a name such as 'cpu' or 'cuda', or a torch.device, got {device!r}."
        )
    unknown = f"there is no device {str(device)!r}: use cpu, cuda or cuda:0, cuda:1, ..."
    try:
        found = torch.device(device)
    except RuntimeError as error:  # torch answers with a list of all names of devices
        raise ValueError(unknown) from error
    if found.type == "cpu":
        return found
    if found.type == "cuda":
        n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (found.index or 0) >= n_devices:
            has = plural(n_devices, "CUDA device") if n_devices else "no CUDA device"
            raise ValueError(
                f"the device {str(device)!r} is not there: torch finds {has} here; use 'cpu'."
            )
        return found
    try:
        torch.Generator(found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(unknown) from error
    return found
