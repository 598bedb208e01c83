"""Every failure is an OSError, and anyio's class where anyio has one."""

import errno
import socket

import anyio
import pytest

from xsock.nw import _errors
from xsock.nw._errors import Category, NetworkError

CLASSES = [
    cls
    for cls in (getattr(_errors, name) for name in _errors.__all__)
    if isinstance(cls, type) and issubclass(cls, NetworkError)
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_failure_is_an_oserror_with_an_errno(cls: type[NetworkError]) -> None:
    error = cls(endpoint="there")
    assert isinstance(error, OSError)
    assert error.errno == cls.errno_default
    assert error.endpoint == "there"
    assert error.strerror


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_raised_again_it_is_a_new_instance_with_the_first_as_cause(cls: type[NetworkError]) -> None:
    first = cls(category=Category.OVERLOAD)
    second = first.again()
    assert second is not first
    assert type(second) is cls
    assert second.__cause__ is first
    assert (second.errno, second.strerror) == (first.errno, first.strerror)
    assert second.category is Category.OVERLOAD


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.ECONNREFUSED, ConnectionRefusedError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.ENETUNREACH, OSError),
    ],
)
def test_no_connection(number: int, builtin: type[OSError]) -> None:
    error = _errors.failed(number)
    assert isinstance(error, builtin)
    assert isinstance(error, anyio.ConnectionFailed)
    assert error.errno == number
    assert error.attempts == ()


@pytest.mark.parametrize(
    ("number", "builtin"),
    [
        (errno.ECONNRESET, ConnectionResetError),
        (errno.ECONNABORTED, ConnectionAbortedError),
        (errno.ETIMEDOUT, TimeoutError),
        (errno.EPIPE, OSError),
    ],
)
def test_dead_connection(number: int, builtin: type[OSError]) -> None:
    error = _errors.broken(number)
    assert isinstance(error, builtin)
    assert isinstance(error, anyio.BrokenResourceError)
    assert error.errno == number


def test_resolution_errors_are_gaierrors() -> None:
    error = _errors.NameResolutionError(socket.EAI_AGAIN)
    assert isinstance(error, socket.gaierror)
    assert error.transient
    assert error.domain == "dns"
    assert not _errors.NameResolutionError().transient
