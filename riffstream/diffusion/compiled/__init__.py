"""Evaluation of the embedded model's networks by OpenVINO: conversion, cache, and the return to torch after a fault."""
