"""The compiled loop over lines of four numbers, from bytes to float64, each rounded as Python's own float() does.

All in one file: what numba keeps from an earlier process is thrown away when this file changes, not when another does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nire.compiled import compiled

Bytes = NDArray[np.uint8]
Int = int | np.int64
Truth = bool | np.bool
"""What numbers are inside compiled code."""
ONE = np.uint64(1)
"""Places in the data are unsigned: for a signed one numba asks each time whether it counts from the end."""

_TENS = np.array([float(f"1e{power}") for power in range(23)])  # those that a float64 holds exactly
_MOST_MANTISSA = 900_000_000_000_000_000  # below it one more digit fits 63 bits
_EXACT = 1 << 53  # below it a float64 holds every whole number
_ENOUGH, _NO_POWER = 9999, 1 << 30  # an exponent from which on its further digits do not matter; where there is none
_SPLIT = 134_217_729.0  # 2^27 + 1: splits a float64 into two halves of its bits
_DOUBT = 1e-14  # relative, of a correction; its own error is below 1e-15

_TAB, _NEWLINE, _FEED, _RETURN, _SPACE = 9, 10, 12, 13, 32
_PLUS, _COMMA, _MINUS, _POINT, _ZERO, _SEMICOLON, _E, _SMALL_E = 43, 44, 45, 46, 48, 59, 69, 101


@compiled
def read_lines(
    data: Bytes, before: int, numbers: NDArray[np.float64], places: NDArray[np.int64], spill: Bytes
) -> tuple[Int, int, int, Int, bool]:
    """Read lines until the end, or to one that is not four numbers; empty lines are skipped.

    Args:
        data: uint8 [N], the last one a line feed. A line ends with a line feed or a carriage return.
        before: whole numbers at the begin of each line that are passed over.
        numbers: float64 [4, R], a column for each line, filled from 0; R is no less than the lines.
        places: int64 [4 R], filled: where in the flat `numbers` those belong that were too hard.
        spill: uint8 [N], filled with their text, a blank after each.

    Returns:
        (begin of the first line that was not read; columns, places and bytes of spill that were filled; whether that
        line is bad).
    """
    at, size = np.uint64(0), np.uint64(data.size)
    spilt, n, hard = np.uint64(0), 0, 0
    while at < size:
        i = at
        while is_blank(data[i]):
            i += ONE
        if is_end(data[i]):
            at = i + ONE
            continue
        kept_hard, kept_spilt = hard, spilt
        for _ in range(before):
            begin = i
            while is_digit(data[i]):
                i += ONE
            stop = i
            while is_blank(data[i]) or data[i] == _COMMA or data[i] == _SEMICOLON:
                i += ONE
            if stop == begin or i == stop or is_end(data[i]):
                return np.int64(at), n, kept_hard, np.int64(kept_spilt), True
        for column in range(4):
            begin = i
            is_negative = data[i] == _MINUS
            if is_negative or data[i] == _PLUS:
                i += ONE
            mantissa, exponent, digits, is_hard = np.int64(0), np.int64(0), 0, False
            while is_digit(data[i]) and mantissa < _MOST_MANTISSA:
                mantissa = mantissa * 10 + np.int64(data[i] - _ZERO)
                digits += 1
                i += ONE
            while is_digit(data[i]):
                is_hard = True
                i += ONE
            if data[i] == _POINT:
                i += ONE
                while is_digit(data[i]) and mantissa < _MOST_MANTISSA:
                    mantissa = mantissa * 10 + np.int64(data[i] - _ZERO)
                    exponent -= 1
                    digits += 1
                    i += ONE
                while is_digit(data[i]):
                    is_hard |= data[i] != _ZERO
                    i += ONE
            is_good = digits > 0
            if is_good and (data[i] == _E or data[i] == _SMALL_E):
                i, power = power_at(data, i + ONE)
                exponent += power
                is_good = power != _NO_POWER
            stop = i
            while is_blank(data[i]) or data[i] == _COMMA or data[i] == _SEMICOLON:
                i += ONE
            if not is_good or is_end(data[i]) != (column == 3) or (i == stop and column < 3):
                return np.int64(at), n, kept_hard, np.int64(kept_spilt), True
            is_sure, value = scaled(mantissa, exponent)
            numbers[column, n] = -value if is_negative else value
            if is_hard or not is_sure:
                places[hard] = column * numbers.shape[1] + n
                hard += 1
                spill[spilt : spilt + stop - begin] = data[begin:stop]
                spilt += stop - begin + ONE
                spill[spilt - ONE] = _SPACE
        n += 1
        at = i + ONE
    return np.int64(at), n, hard, np.int64(spilt), False


@compiled
def power_at(data: Bytes, at: np.uint64) -> tuple[np.uint64, np.int64]:
    """Read an exponent: (first byte after it, its value, or _NO_POWER where no digit is)."""
    is_negative = data[at] == _MINUS
    if is_negative or data[at] == _PLUS:
        at += ONE
    if not is_digit(data[at]):
        return at, np.int64(_NO_POWER)
    power = np.int64(0)
    while is_digit(data[at]):
        if power < _ENOUGH:
            power = power * 10 + np.int64(data[at] - _ZERO)
        at += ONE
    return at, -power if is_negative else power


@compiled
def is_digit(byte: np.uint8) -> Truth:
    """Tell whether a byte is one of 0 to 9."""
    return byte >= _ZERO and byte <= _ZERO + 9


@compiled
def is_blank(byte: np.uint8) -> Truth:
    """Tell whether a byte is a blank within a line."""
    return byte == _SPACE or (byte >= _TAB and byte <= _FEED and byte != _NEWLINE)


@compiled
def is_end(byte: np.uint8) -> Truth:
    """Tell whether a byte ends a line."""
    return byte in (_NEWLINE, _RETURN)


@compiled
def scaled(mantissa: Int, exponent: Int) -> tuple[Truth, float]:
    """Compute mantissa * 10^exponent, and tell whether it is surely the float64 that is nearest."""
    if mantissa == 0 or exponent == 0:
        return True, float(mantissa)
    if exponent < -22 or exponent > 22 or (exponent > 0 and mantissa >= _EXACT):
        return False, 0.0
    if exponent > 0:
        return True, mantissa * _TENS[exponent]
    if mantissa < _EXACT:
        return True, mantissa / _TENS[-exponent]
    return divided(mantissa, _TENS[-exponent])


@compiled
def divided(mantissa: Int, ten: float) -> tuple[Truth, float]:
    """Divide a whole number of up to 63 bits: a float64 quotient, corrected by what it leaves (Dekker's products)."""
    high = float(mantissa)
    low = float(mantissa - np.int64(high))
    quotient = high / ten
    a, b = upper_half(quotient), upper_half(ten)
    product = quotient * ten
    error = ((a * b - product) + a * (ten - b) + (quotient - a) * b) + (quotient - a) * (ten - b)
    correction = (((high - product) - error) + low) / ten
    doubt = abs(correction) * _DOUBT
    value = quotient + (correction - doubt)
    return value == quotient + (correction + doubt), value


@compiled
def upper_half(value: float) -> float:
    """Keep the upper 26 bits of a number."""
    c = _SPLIT * value
    return c - (c - value)
