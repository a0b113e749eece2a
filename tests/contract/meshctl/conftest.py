"""Fake programs for every test of this folder that asks for them."""

from tests.unit.meshctl.conftest import programs

__all__ = ["programs"]
